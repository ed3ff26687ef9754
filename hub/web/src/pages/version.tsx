export function Version() { return <p />; }
