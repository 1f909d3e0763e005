// Columns of a run and how they are drawn. Points are kept exact in typed arrays that double; every drawing is made
// of them anew in at most two buckets a pixel, so smoothing never depends on how far the chart is zoomed out.
class Columns {
  constructor(names) {
    this.names = names;
    this.clear();
  }

  clear() {
    this.length = 0;
    this.room = 1024;
    this.of = Object.fromEntries(this.names.map(name => [name, new Float64Array(this.room)]));
  }

  // points: {step, tokens, elapsed_s, metrics}; a measurement that was not taken is NaN here.
  add(points) {
    const count = points.step.length;
    while (this.length + count > this.room) this.grow();
    for (const name of this.names) {
      const from = points[name] ?? points.metrics[name], into = this.of[name];
      for (let i = 0; i < count; i++) into[this.length + i] = from?.[i] ?? NaN;
    }
    this.length += count;
  }

  grow() {
    this.room *= 2;
    for (const name of this.names) {
      const wider = new Float64Array(this.room);
      wider.set(this.of[name]);
      this.of[name] = wider;
    }
  }

  get(name) { return this.of[name].subarray(0, this.length); }
}

// Debiased exponential moving average over the measurements that exist (weight per measurement, not per pixel).
const smoothed = (values, weight) => {
  const out = new Float64Array(values.length).fill(NaN);
  let mean = 0, mass = 0;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) continue;
    mean = weight * mean + (1 - weight) * values[i];
    mass = weight * mass + (1 - weight);
    out[i] = mean / mass;
  }
  return out;
};

// Buckets over a range of x: for each the last x, and per column last, lowest and highest of what was measured in it.
const bucketed = (xs, columns, low, high, most) => {
  const width = (high - low) / most || 1;
  const out = { x: [], last: columns.map(() => []), low: columns.map(() => []), high: columns.map(() => []) };
  let bucket = null;
  for (let i = 0; i < xs.length; i++) {
    if (!(xs[i] >= low && xs[i] <= high)) continue;
    const at = Math.floor((xs[i] - low) / width);
    if (at !== bucket) {
      bucket = at;
      out.x.push(xs[i]);
      for (const part of [out.last, out.low, out.high]) part.forEach(column => column.push(null));
    }
    const j = out.x.length - 1;
    out.x[j] = xs[i];
    columns.forEach((values, c) => {
      const value = values[i];
      if (Number.isNaN(value)) return;
      out.last[c][j] = value;
      out.low[c][j] = out.low[c][j] === null ? value : Math.min(out.low[c][j], value);
      out.high[c][j] = out.high[c][j] === null ? value : Math.max(out.high[c][j], value);
    });
  }
  return out;
};

// The range that holds the middle 98 % and everything that must be seen; null when nothing was measured.
const rangeOf = (values, must, clip) => {
  const known = Float64Array.from(values.filter(v => v !== null && Number.isFinite(v))).sort();
  if (!known.length) return null;
  const edge = clip && known.length > 40 ? Math.floor(known.length * 0.01) : 0;
  const top = clip && known.length > 40 ? Math.floor(known.length * 0.97) : known.length - 1;
  const wanted = [known[edge], known[top], ...must.filter(v => v !== null && Number.isFinite(v))];
  const low = Math.min(...wanted), high = Math.max(...wanted);
  const pad = (high - low || Math.abs(high) * 0.02 || 0.01) * 0.06;
  return [low - pad, high + pad];
};

const css = name => {
  const probe = document.createElement('i');
  probe.style.color = `var(${name})`;
  probe.hidden = true;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};
const faded = (colour, share) =>
  colour.startsWith('oklch')
    ? colour.replace(')', ` / ${share})`)
    : colour.replace('rgb(', 'rgba(').replace(')', `, ${share})`);
const inShort = value => {
  const size = Math.abs(value);
  for (const [limit, unit, name] of [[1e9, 1e9, ' G'], [1e6, 1e6, ' M'], [1e4, 1e3, ' k']])
    if (size >= limit) return +(value / unit).toPrecision(3) + name;
  return value.toLocaleString('en', { maximumSignificantDigits: 4 });
};
const asTime = seconds => {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round(seconds % 3600 / 60)} min`;
};
