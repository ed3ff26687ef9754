// Line icons on a grid of 16.

const PATHS: Record<string, string> = {
  fleet: "M2.5 2.5h4v4h-4zM9.5 2.5h4v4h-4zM2.5 9.5h4v4h-4zM9.5 9.5h4v4h-4z",
  door: "M3 13.5h10M4.5 13.5v-11h7v11M9 8.2v.1",
  key: "M10 9.5a3.5 3.5 0 1 0-3.3-2.3L2.5 11.4v2.1h2.2v-1.6h1.6v-1.6l1.1-1.1c.8.2 1.7.3 2.6.3M11 5v.1",
  addon: "M8 1.8 13.4 5v6L8 14.2 2.6 11V5zM2.8 5.1 8 8l5.2-2.9M8 8v6",
  rollout: "M2.5 4h5M2.5 8h8M2.5 12h11M13.5 4l-3 0M12 2.5 13.5 4 12 5.5",
  alert: "M8 2.2 14 13H2zM8 6.5v3M8 11.3v.1",
  audit: "M4 1.8h5.5L12.5 5v9.2H4zM6.2 7.5h4M6.2 10.5h4",
  hub: "M8 1.8v3M8 11.2v3M1.8 8h3M11.2 8h3M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6",
  person: "M8 8a2.8 2.8 0 1 0 0-5.6A2.8 2.8 0 0 0 8 8M2.8 14c.5-2.7 2.4-4 5.2-4s4.7 1.3 5.2 4",
  find: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10M10.7 10.7 14 14",
  close: "M4 4l8 8M12 4l-8 8",
  check: "M3 8.5l3.2 3.2L13 5",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  plus: "M8 3v10M3 8h10",
  menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
  more: "M3.5 8v.1M8 8v.1M12.5 8v.1",
  up: "M4.5 9.5 8 6l3.5 3.5",
  right: "M6 4.5 9.5 8 6 11.5",
  list: "M2.5 4h11M2.5 8h11M2.5 12h11",
  moon: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7",
  sun: "M8 10.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9",
  out: "M6.5 13.5h-4v-11h4M6 8h8M11 5l3 3-3 3",
  keyboard: "M1.8 4h12.4v8H1.8zM4 6.5v.1M6.7 6.5v.1M9.3 6.5v.1M12 6.5v.1M5 9.5h6",
  trash: "M2.5 4.5h11M6 4.5v-2h4v2M4 4.5l.6 9h6.8l.6-9",
  edit: "M2.5 13.5 3 10.7 10.8 3l2.2 2.2L5.3 13z",
  undo: "M3 6.5h6.5a3.5 3.5 0 0 1 0 7H6M5.5 3.5l-3 3 3 3",
  refresh: "M13.5 8A5.5 5.5 0 1 1 11.8 4M13.5 2v3h-3",
};

export function Icon({ name, size = 16 }: { name: string; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      <path d={PATHS[name] ?? ""} />
    </svg>
  );
}

export function Mark() {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="#16202e" />
      <path d="M8 8h5a8 8 0 0 1 0 16H8z" fill="none" stroke="#7fb0ff" stroke-width="3" stroke-linejoin="round" />
      <circle cx="24.5" cy="10" r="2.2" fill="#4cc38a" /><circle cx="24.5" cy="22" r="2.2" fill="#4cc38a" />
    </svg>
  );
}
