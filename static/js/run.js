// One run as it happens: frames from the socket (or over HTTP) into columns, curves, log and the facts above them.
const page = document.getElementById('run');
// Of a foreign trainer the loss and its own metric are drawn, as it says them: no bits per byte.
const told = page.dataset.metric;
const TRAIN = told ? 'train_loss' : 'train_bpb', WATCH = told || 'watch_bpb';
const NAMES = [...new Set(['step', 'tokens', 'elapsed_s', TRAIN, WATCH, 'tokens_per_s'])];
const mine = new Columns(NAMES), parent = new Columns(NAMES);
const $ = id => document.getElementById(id);
const redraw = (() => {
  let queued = 0;
  return () => { queued ||= requestAnimationFrame(() => { queued = 0; draw(); }); };
})();

// --- settings, kept in the address so that a link shows the same picture
const asked = new URLSearchParams(location.search);
const settings = {
  x: ['step', 'tokens', 'elapsed_s'].includes(asked.get('x')) ? asked.get('x') : 'step',
  log: asked.get('log') === '1',
  clip: asked.get('clip') !== '0',
  smooth: Math.min(0.99, Math.max(0, Number(asked.get('smooth') ?? 0.9) || 0)),
};
const keep = () => {
  const query = new URLSearchParams(location.search);
  const put = (key, value, usual) => value === usual ? query.delete(key) : query.set(key, value);
  put('x', settings.x, 'step');
  put('log', settings.log ? '1' : '', '');
  put('clip', settings.clip ? '' : '0', '');
  put('smooth', settings.smooth.toFixed(2), '0.90');
  history.replaceState(history.state, '', location.pathname + (query.size ? `?${query}` : ''));
};
const pressed = (group, key, value) => group.querySelectorAll('button').forEach(button =>
  button.setAttribute('aria-pressed', String(button.dataset[key] === value)));
document.querySelector('.tools').hidden = false;
$('logy').checked = settings.log;
$('clip').checked = settings.clip;
$('smooth').value = Math.round(settings.smooth * 100);
$('smooth-out').value = settings.smooth.toFixed(2);
pressed($('axis'), 'x', settings.x);
$('axis').addEventListener('click', event => {
  const x = event.target.dataset?.x;
  if (!x) return;
  settings.x = x;
  zoom = null;
  pressed($('axis'), 'x', x);
  keep();
  rebuild();
});
$('logy').addEventListener('change', () => { settings.log = $('logy').checked; keep(); rebuild(); });
$('clip').addEventListener('change', () => { settings.clip = $('clip').checked; keep(); redraw(); });
$('smooth').addEventListener('input', () => {
  settings.smooth = $('smooth').value / 100;
  $('smooth-out').value = settings.smooth.toFixed(2);
  keep();
  redraw();
});

// --- charts
let loss = null, speed = null, zoom = null;
const COLUMNS = { TOP: 1, LOW: 2, RAW: 3, TRAIN: 4, WATCH: 5, PTRAIN: 6, PWATCH: 7 };
const yLabel = value => value === null ? '' : value.toLocaleString('en', { maximumFractionDigits: 3 });
const xLabel = value => settings.x === 'elapsed_s' ? asTime(value) : inShort(value);
const axisOf = (colour, grid) => (
  { stroke: colour, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '12px Geist, sans-serif' });

const rebuild = () => {
  loss?.destroy();
  speed?.destroy();
  const c = { grid: css('--grid'), text: css('--ink-3'), train: css('--s1'), watch: css('--s4'), speed: css('--s3') };
  const axis = axisOf(c.text, c.grid), hidden = { show: false };
  const line = (stroke, over = {}) => ({ stroke, width: 2, points: hidden, ...over });
  loss = new uPlot({
    width: $('loss').clientWidth, height: $('loss').clientHeight, padding: [10, 24, 0, 2], legend: hidden,
    cursor: { points: { size: 7 }, y: false, drag: { x: true, y: false, setScale: false } },
    scales: { x: { time: false, range: () => xRange() }, y: { distr: settings.log ? 3 : 1, range: () => yRange } },
    axes: [
      { ...axis, size: 30, space: 80, values: (_, v) => v.map(xLabel) },
      { ...axis, size: 52, values: (_, v) => v.map(yLabel) },
    ],
    bands: [{ series: [COLUMNS.TOP, COLUMNS.LOW], fill: faded(c.train, 0.2) }],
    series: [{}, line('transparent'), line('transparent'),
      line(c.train, { width: 1, alpha: 0.28, spanGaps: true }), line(c.train, { spanGaps: true }),
      line(c.watch, { spanGaps: true, points: { show: true, size: 6, fill: c.watch } }),
      line(c.train, { width: 1.5, dash: [5, 5], spanGaps: true, alpha: 0.55 }),
      line(c.text, { width: 1.5, dash: [5, 5], spanGaps: true, points: { show: true, size: 4, fill: c.text } })],
    hooks: { setSelect: [u => zoomTo(u)], setCursor: [u => legend(u.cursor.idx)] },
  }, [[], [], [], [], [], [], [], []], $('loss'));
  speed = new uPlot({
    width: $('speed').clientWidth, height: $('speed').clientHeight, padding: [6, 18, 0, 2],
    legend: hidden, cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: false, range: () => xRange() }, y: { range: (_, low, high) => [0, (high || 1) * 1.12] } },
    axes: [
      { ...axis, grid: hidden, size: 28, space: 90, values: (_, v) => v.map(xLabel) },
      { ...axis, size: 52, space: 34, values: (_, v) => v.map(inShort) },
    ],
    series: [{}, { stroke: c.speed, width: 1.5, fill: faded(c.speed, 0.12), spanGaps: true, points: hidden }],
  }, [[], []], $('speed'));
  loss.over.addEventListener('dblclick', () => { zoom = null; redraw(); });
  draw();
};

const zoomTo = u => {
  if (u.select.width < 4) return;
  zoom = [u.posToVal(u.select.left, 'x'), u.posToVal(u.select.left + u.select.width, 'x')];
  u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  redraw();
};
// The whole run, as far as its end is known: what is still to come stays visible as room on the right.
const xRange = () => {
  if (zoom) return zoom;
  const own = mine.get(settings.x), theirs = parent.get(settings.x);
  let end = Math.max(own.at(-1) ?? 0, theirs.at(-1) ?? 0, 1e-6);
  if (progress?.fraction > 0.02 && own.length) {
    const planned = settings.x === 'step' && progress.num_steps;
    end = Math.max(end, planned || own.at(-1) / progress.fraction);
  }
  return [0, end];
};
let yRange = [0, 1], buckets = null, progress = null;

const draw = () => {
  if (!loss) return;
  const [low, high] = xRange(), most = Math.max(64, $('loss').clientWidth * 2);
  const raw = mine.get(TRAIN), smooth = smoothed(raw, settings.smooth);
  const own = bucketed(mine.get(settings.x), [raw, smooth, mine.get(WATCH)], low, high, most);
  const praw = parent.get(TRAIN);
  const theirs = [smoothed(praw, settings.smooth), parent.get(WATCH)];
  const other = bucketed(parent.get(settings.x), theirs, low, high, most);
  buckets = uPlot.join([
    [own.x, own.high[0], own.low[0], own.last[0], own.last[1], own.last[2]],
    [other.x, other.last[0], other.last[1]],
  ]);
  const seen = [...own.low[0], ...own.high[0], ...own.last[2], ...other.last[1]];
  yRange = rangeOf(seen, [own.last[2].at(-1) ?? null], settings.clip) ?? [0, 1];
  if (settings.log) yRange = [Math.max(yRange[0], 1e-3), Math.max(yRange[1], 2e-3)];
  loss.setData(buckets.map((column, i) => i ? positive(column) : column));
  const rate = bucketed(mine.get(settings.x), [mine.get('tokens_per_s')], low, high, most);
  speed.setData([rate.x, rate.last[0]]);
  const now = lastOf(mine.get('tokens_per_s'));
  $('speed-now').textContent = now === null ? '' : `${inShort(now)} tok/s`;
  legend(null);
};
const positive = column => settings.log ? column.map(v => v > 0 ? v : v === undefined ? undefined : null) : column;
const lastOf = values => {
  for (let i = values.length - 1; i >= 0; i--) if (!Number.isNaN(values[i])) return values[i];
  return null;
};

// Values under the cursor; without one the newest. A bucket without a measurement shows the last one before it.
const legend = index => {
  if (!buckets) return;
  const at = column => {
    for (let i = index ?? buckets[0].length - 1; i >= 0; i--)
      if (buckets[column][i] != null) return buckets[column][i].toFixed(4);
    return null;
  };
  const rows = [
    [told ? 'Train loss, as it says' : 'Train, bpb', 'var(--s1)', '', at(COLUMNS.TRAIN)],
    [`${told || 'Live val'}, self-reported`, 'var(--s4)', '', at(COLUMNS.WATCH)],
    ['Raw', 'color-mix(in oklch, var(--s1) 22%, transparent)', 'band', ''],
  ];
  if (parent.length) {
    rows.push([`Incumbent, same seed, ${told || 'live val'}`, 'var(--ink-3)', 'dash', at(COLUMNS.PWATCH)]);
    rows.push(['its train', 'var(--s1)', 'dash', at(COLUMNS.PTRAIN)]);
  }
  if (index != null && buckets[0][index] !== undefined) {
    const name = settings.x === 'elapsed_s' ? 'at' : settings.x;
    rows.unshift([name, 'transparent', 'band', xLabel(buckets[0][index])]);
  }
  $('legend').replaceChildren(...rows.filter(row => row[3] !== null).map(([name, colour, kind, value]) => {
    const item = document.createElement('span');
    const key = document.createElement('i'), number = document.createElement('b');
    key.className = kind;
    key.style.setProperty('--c', colour);
    number.textContent = value;
    item.append(key, `${name} `, number);
    return item;
  }));
};

// --- log: text only, bounded; follows the end until somebody scrolls up
const MAX_LINES = 4000;
const log = $('log'), counts = document.querySelector('#levels [data-count]');
let warnings = 0;
const TONES = { eval: 'V', warning: 'W', error: 'E' };
const addLog = lines => {
  if (!lines.length) return;
  log.querySelector('[data-empty]')?.remove();
  const fresh = document.createDocumentFragment();
  for (const line of lines.slice(-MAX_LINES)) {
    const row = document.createElement('div');
    const time = document.createElement('time'), text = document.createElement('span');
    row.className = TONES[line.level] ?? '';
    time.textContent = asTime(line.at_s);
    text.textContent = line.text;
    row.append(time, text);
    fresh.append(row);
    if (line.level === 'warning' || line.level === 'error') warnings++;
  }
  log.append(fresh);
  while (log.childElementCount > MAX_LINES) log.firstElementChild.remove();
  counts.textContent = warnings || '';
  if ($('follow').checked) log.scrollTop = log.scrollHeight;
};
log.addEventListener('scroll', () => {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
  if (!atEnd && log.matches(':hover, :focus-within')) $('follow').checked = false;
});
$('follow').addEventListener('change', () => { if ($('follow').checked) log.scrollTop = log.scrollHeight; });
$('levels').addEventListener('click', event => {
  const level = event.target.closest('button')?.dataset.level;
  if (!level) return;
  log.dataset.level = level;
  pressed($('levels'), 'level', level);
  log.scrollTop = log.scrollHeight;
});

// --- frames
let attempt = null, state = null;
const put = (id, text) => { const at = $(id); if (at && at.firstChild?.nodeValue !== text) at.replaceChildren(text); };
const heard = frame => {
  if (frame === null) return;
  if (attempt !== null && frame.attempt !== attempt) startAgain();
  attempt = frame.attempt;
  if (frame.points) mine.add(frame.points);
  page.dataset.liveStep = mine.length ? mine.get('step').at(-1) : 0;
  addLog(frame.log);
  progress = frame.progress;
  facts(frame);
  if (state !== null && state !== frame.state) moved();
  state = frame.state;
  redraw();
};
const startAgain = () => {
  mine.clear();
  log.replaceChildren();
  warnings = 0;
  zoom = null;
};
// The facts and the side of the page are the server's words: fetched again when the state moved.
const moved = () => { for (const id of ['facts', 'side']) $(id).dispatchEvent(new CustomEvent('moved')); };
const STATES = {
  queued: 'Queued', leased: 'Starting', training: 'Training', scoring: 'Scoring', finished: 'Finished',
  failed: 'Failed', timed_out: 'Timed out', cancelled: 'Cancelled', lost: 'Lost',
};
const facts = frame => {
  const newest = frame.latest ?? {};
  const show = (id, name, write) => { if (newest[name]) put(id, write(newest[name][0])); };
  show('t-loss', 'train_loss', v => v.toFixed(4));
  show('t-watch', WATCH, v => v.toFixed(4));
  show('t-speed', 'tokens_per_s', inShort);
  show('t-mfu', 'mfu_percent', v => `${v.toFixed(1)} %`);
  show('t-memory', 'peak_memory_mib', v => `${Math.round(v).toLocaleString('en')} MiB`);
  const name = page.dataset.name;
  if (!frame.progress || frame.over) { document.title = `${name} · ${STATES[frame.state]}`; return; }
  const { fraction, step, num_steps: numSteps, eta_s: eta } = frame.progress;
  const share = frame.state === 'scoring' ? 1 : fraction, percent = Math.floor(100 * share);
  put('pg', `Step ${step.toLocaleString('en')}${numSteps ? ` of ${numSteps.toLocaleString('en')}` : ''}`);
  put('pct', `${percent} %`);
  put('eta', frame.state === 'scoring' ? 'Being scored' : eta === null ? '' : `About ${asTime(eta)} left`);
  $('bar').style.setProperty('--p', 100 * share);
  document.querySelector('.track').setAttribute('aria-valuenow', percent);
  document.title = `${percent} % · ${name} · ${STATES[frame.state]}`;
};

// --- reading: the whole past over HTTP when the run is over, the socket while it lives; the parent's curve beside it
const readAll = async (address, take) => {
  for (let since = 0, more = true; more;) {
    const how = { headers: { Accept: 'application/json' }, signal: AbortSignal.timeout(20_000) };
    const answer = await fetch(`${address}?since=${since}`, how);
    if (!answer.ok) throw new Error(`${address}: HTTP ${answer.status}`);
    const frame = await answer.json();
    if (!Number.isInteger(frame?.seq)) throw new Error(`${address}: no frame`);
    take(frame);
    more = frame.more && frame.seq > since;
    since = frame.seq;
  }
};
const failed = error => {
  console.error(error);
  const notice = document.createElement('p');
  notice.className = 'note padx bad';
  notice.setAttribute('role', 'alert');
  notice.textContent = 'The curves could not be read. Reload the page to try again.';
  $('legend').before(notice);
};
const follow = () => new Line({
  path: page.dataset.socket, poll: page.dataset.points, since: 0, heard, told: words => speak('run', words),
});
let parentAttempt = null;
const takeParent = frame => {
  if (frame.attempt !== parentAttempt) parent.clear();
  parentAttempt = frame.attempt;
  if (frame.points) parent.add(frame.points);
};
const start = async () => {
  rebuild();
  let wait = 0;
  new ResizeObserver(() => { cancelAnimationFrame(wait); wait = requestAnimationFrame(rebuild); }).observe($('loss'));
  addEventListener('themechange', () => requestAnimationFrame(rebuild));
  if (page.dataset.parent) readAll(page.dataset.parent, takeParent).then(redraw, failed);
  if (page.dataset.over) await readAll(page.dataset.points, heard).catch(failed);
  else follow();
};
(document.fonts?.ready ?? Promise.resolve()).then(start);
