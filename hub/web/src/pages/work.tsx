export function Work() { return <p />; }
