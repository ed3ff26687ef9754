export function Audit() { return <p />; }
