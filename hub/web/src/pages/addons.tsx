export function Addons() { return <p />; }
