export function Hub() { return <p />; }
