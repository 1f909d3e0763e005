// The socket nudges, HTTP is the truth. A line reconnects with ?since= rewritten after every frame, so nothing is
// lost while a server restarts or a laptop sleeps; after 30 s without a socket it polls the same frames over HTTP.
const RETRY_MAX_S = 10, STALE_S = 30, QUIET_S = 40, POLL_S = 5, NUDGE_MS = 1000;

class Line {
  // path: socket address; poll: address of the same frames, or null; heard(frame) may return a promise, and is never
  // called twice at a time; told(words) hears live, wait, poll, stale, full, refused or over.
  constructor({ path, poll = null, since = null, heard, told = () => {} }) {
    Object.assign(this, { path, poll, since, heard, told });
    Object.assign(this, { tries: 0, ended: false, downAt: Date.now(), chain: Promise.resolve() });
    this.told('wait');
    this.connect();
    this.watch = setInterval(() => this.check(), 1000);
    document.addEventListener('visibilitychange', () => { if (!document.hidden && !this.up()) this.connect(); });
    window.addEventListener('focus', () => { if (!this.up()) this.connect(); });
  }

  up() { return this.socket && this.socket.readyState <= WebSocket.OPEN; }

  connect() {
    if (this.ended || this.up()) return;
    clearTimeout(this.retry);
    const query = this.since === null ? '' : `?since=${this.since}`;
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}${this.path}${query}`);
    this.socket = socket;
    socket.onopen = () => { this.tries = 0; this.downAt = null; this.lastAt = Date.now(); this.told('live'); };
    socket.onmessage = message => { this.lastAt = Date.now(); this.take(JSON.parse(message.data)); };
    socket.onclose = event => this.closed(socket, event.code);
  }

  closed(socket, code) {
    if (socket !== this.socket || this.ended) return;
    this.socket = null;
    // A newer page of the same person took the seat. Somebody has to look at this one before it asks for one again:
    // pages that come back by themselves would chase each other for ever.
    if (code === 4429) { this.downAt = null; return this.told('full'); }
    if (code === 1000 || (code >= 4400 && code < 4500)) return this.end(code);
    this.downAt ??= Date.now();
    this.told(Date.now() - this.downAt > STALE_S * 1000 ? 'stale' : 'wait');
    const wait = Math.min(RETRY_MAX_S, 0.5 * 2 ** this.tries++) * (0.75 + Math.random() / 2);
    this.retry = setTimeout(() => this.connect(), wait * 1000);
  }

  // A socket that is open and silent for longer than two heartbeats is dead, whatever the browser believes.
  check() {
    if (this.ended || document.hidden) return;
    if (this.socket?.readyState === WebSocket.OPEN && Date.now() - this.lastAt > QUIET_S * 1000) {
      const socket = this.socket;
      this.closed(socket, 1006);
      socket.close();
    }
    const isStale = this.downAt && Date.now() - this.downAt > STALE_S * 1000;
    if (isStale && Date.now() - (this.polledAt ?? 0) > POLL_S * 1000) this.fallBack();
  }

  async fallBack() {
    this.polledAt = Date.now();
    if (!this.poll) { this.told('stale'); return this.heard(null); }
    try {
      const how = { headers: { Accept: 'application/json' }, signal: AbortSignal.timeout(8000) };
      const answer = await fetch(`${this.poll}?since=${this.since ?? 0}`, how);
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const frame = await answer.json();
      // A sign-in page of the network may call itself JSON; what it says would clear what is shown.
      if (!Number.isInteger(frame?.seq)) throw new Error('no frame');
      this.told('poll');
      this.take(frame);
    } catch { this.told('stale'); }
  }

  // Frames are taken in turn; one that is not newer than what is known changes only what has no seq.
  take(frame) {
    this.chain = this.chain.then(() => this.heard(frame)).catch(error => console.error(error));
    if (frame.seq !== undefined && frame.seq >= (this.since ?? 0)) this.since = frame.seq;
    if (frame.more && !this.up()) { this.polledAt = 0; this.check(); }
    if (frame.over && !frame.more) this.end(1000);
  }

  end(code) {
    this.ended = true;
    clearInterval(this.watch);
    clearTimeout(this.retry);
    this.told(code === 1000 ? 'over' : 'refused');
    this.socket?.close();
  }
}

// --- the chip in the top bar speaks for the worst line of the page
const chip = document.getElementById('chip');
const standing = new Map();
const WORDS = {
  live: ['good', 'Live', true], wait: ['wait', 'Reconnecting', false], poll: ['warn', 'Polling', false],
  stale: ['stale', 'Stale', false], refused: ['stale', 'Not followed', false],
  full: ['warn', 'Too many pages', false],
};
const WHY = {
  full: 'More of your pages are open than are kept live at once, so this one stands still. '
    + 'Click into it, and it goes on.',
};
const speak = (line, words) => {
  standing.set(line, words);
  if (!chip) return;
  const worst = ['refused', 'stale', 'full', 'poll', 'wait', 'live'].find(w => [...standing.values()].includes(w));
  chip.hidden = !worst;
  if (!worst || chip.dataset.now === worst) return;
  chip.dataset.now = worst;
  const [tone, text, beats] = WORDS[worst];
  chip.className = `pill chip ${tone}`;
  chip.querySelector('.dot').classList.toggle('live', beats);
  chip.querySelector('[data-words]').textContent = text;
  chip.title = WHY[worst] ?? '';
};

// --- campaigns: a nudge lets every region that listens fetch itself again, at most once a second
let nudged = 0, waiting = 0;
const nudge = () => {
  if (waiting) return;
  waiting = setTimeout(() => {
    waiting = 0;
    if (document.hidden) { nudged = 1; return; }
    nudged = 0;
    const regions = document.querySelectorAll('[hx-trigger~="nudge"], [hx-trigger^="nudge"]');
    regions.forEach(region => region.dispatchEvent(new CustomEvent('nudge')));
  }, NUDGE_MS);
};
document.addEventListener('visibilitychange', () => { if (!document.hidden && nudged) nudge(); });
for (const slug of (document.body.dataset.campaigns ?? '').split(' ').filter(Boolean)) {
  let first = true; // tells where the campaign stands; everything after it is news
  new Line({
    path: `/live/campaigns/${slug}/`,
    since: Number(document.body.dataset.since),
    heard: frame => { if (frame === null || frame.changed.length || !first) nudge(); first = false; },
    told: words => { if (words === 'wait') first = true; speak(`campaign ${slug}`, words); },
  });
}
