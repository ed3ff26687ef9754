export function Addon() { return <p />; }
