export function Cluster() { return <p />; }
