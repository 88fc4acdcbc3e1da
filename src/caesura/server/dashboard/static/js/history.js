// What was sampled, as rows with named values.

const LONGEST_SECONDS = 6 * 3600;

/** Rows of the server's history and of the overviews that came since. */
export class History {
  constructor() {
    this.fields = [];
    this.rows = [];
  }

  /** Take over a page of the server's history. */
  load(page) {
    this.fields = page.fields;
    const columns = new Map(page.fields.map((field, index) => [field, index + 1]));
    this.rows = page.points.map((point) => ({ time: point[0], at: (path) => point[columns.get(path)] ?? null }));
  }

  /** Take the next overview. */
  add(overview) {
    if (overview.time <= (this.rows.at(-1)?.time ?? 0)) return;
    const values = new Map(this.fields.map((field) => [field, valueOf(overview, field)]));
    this.rows.push({ time: overview.time, at: (path) => values.get(path) ?? null });
    if (this.rows[0].time < overview.time - LONGEST_SECONDS) this.rows.shift();
  }

  /** Rows from a time on. */
  since(seconds) {
    const first = this.rows.findIndex((row) => row.time >= seconds);
    return first < 0 ? [] : this.rows.slice(first);
  }
}

function valueOf(overview, path) {
  return path.split(".").reduce((value, name) => value?.[name] ?? null, overview);
}
