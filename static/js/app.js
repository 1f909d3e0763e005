// The frame of every page: theme, keyboard, menus, relative times, toasts. Nothing here is needed to decide anything.
const root = document.documentElement;
const stored = {
  get: key => { try { return localStorage.getItem(key); } catch { return null; } },
  set: (key, value) => {
    try { localStorage.setItem(key, value); } catch { /* private window: lasts for this page */ }
  },
};

// --- theme
const isDark = () =>
  root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
const themeButton = document.getElementById('theme');
if (themeButton) {
  themeButton.hidden = false;
  themeButton.addEventListener('click', () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    stored.set('theme', root.dataset.theme);
    dispatchEvent(new Event('themechange'));
  });
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => dispatchEvent(new Event('themechange')));

// --- relative times: the same words as ago() in templatetags/shown.py
const ago = seconds => {
  if (seconds <= -45) return `in ${ago(-seconds).replace(/ ago$/, '')}`;
  if (seconds < 45) return seconds >= 0 ? 'just now' : 'in a moment';
  for (const [size, name] of [[86400, 'd'], [3600, 'h'], [60, 'min']])
    if (seconds >= size * 0.75) return `${Math.max(1, Math.round(seconds / size))} ${name} ago`;
  return 'just now';
};
const tellTime = () => {
  for (const time of document.querySelectorAll('time[data-ago]')) {
    const words = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== words) time.textContent = words;
  }
};
setInterval(() => { if (!document.hidden) tellTime(); }, 20_000);

// --- toasts, copy buttons, panels that close when something else is clicked
const showEnhanced = (where = document) =>
  where.querySelectorAll('[data-copy]').forEach(button => { button.hidden = !navigator.clipboard; });
showEnhanced();
addEventListener('htmx:after:swap', () => { showEnhanced(); tellTime(); watchToasts(); });
document.addEventListener('click', async event => {
  const button = event.target.closest('button');
  if (button?.dataset.copy) {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.setAttribute('aria-label', 'Copied');
  }
  if (button?.hasAttribute('data-dismiss')) button.closest('.toast').remove();
  for (const open of document.querySelectorAll('details.ask[open], details.menu[open], details.numbers[open]'))
    if (!open.contains(event.target)) open.open = false;
});
const watchToasts = () => {
  for (const toast of document.querySelectorAll('.toast:not([data-timed])')) {
    toast.dataset.timed = '';
    setTimeout(() => { if (!toast.matches(':hover, :focus-within')) toast.remove(); }, 8000);
  }
};
watchToasts();
// A click leaves the focus on the summary, where the first space of a sentence would close the panel, and an a in the
// next word approve what was to be rejected: the field takes it, at once. The toggle event comes after the next key.
const openPanel = panel => {
  panel.open = true;
  panel.querySelector('select, textarea, input:not([type=hidden])')?.focus();
};
document.addEventListener('click', event => {
  const panel = event.target.closest('details.ask > summary')?.parentElement;
  if (!panel || panel.open) return;
  event.preventDefault();
  openPanel(panel);
});

// --- keyboard: single keys are off while typing, with modifiers, and when switched off on this device (WCAG 2.1.4)
const keys = document.getElementById('keys');
const keysOn = document.getElementById('keys-on');
const help = document.querySelector('[data-keys-help]');
if (keys && help) {
  help.hidden = false;
  help.addEventListener('click', () => keys.showModal());
  keysOn.checked = stored.get('keys') !== 'off';
  keysOn.addEventListener('change', () => stored.set('keys', keysOn.checked ? 'on' : 'off'));
}
const typing = target => target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName)
  || (target.tagName === 'INPUT' && !/^(checkbox|radio|range|button|submit)$/.test(target.type));
const step = by => {
  const items = [...document.querySelectorAll('.item')];
  const here = items.findIndex(item => item.contains(document.activeElement));
  const at = here >= 0 ? here : items.findIndex(item => item.hasAttribute('aria-current'));
  const link = items[Math.min(items.length - 1, Math.max(0, at + by))]?.querySelector('a');
  link?.focus();
  link?.closest('.item').scrollIntoView({ block: 'nearest' });
};
const places = { i: '/review/', r: '/runs/', c: '/campaigns/' };
let leader = 0;
addEventListener('keydown', event => {
  if (event.key === 'Escape') {
    const open = document.querySelector('details.ask[open], details.menu[open], details.numbers[open]');
    if (open) { open.open = false; open.querySelector('summary').focus(); }
    return;
  }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  // While a panel asks for words no key decides anything: what is typed a moment too early must not approve.
  if (typing(event.target) || keys?.open || (keysOn && !keysOn.checked)) return;
  if (document.querySelector('details.ask[open]')) return;
  const key = event.key.toLowerCase();
  if (Date.now() - leader < 1200 && places[key]) { leader = 0; location.assign(places[key]); return; }
  if (key === 'g') { leader = Date.now(); return; }
  if (key === 'j' || key === 'k') step(key === 'j' ? 1 : -1);
  else if (key === '?') keys?.showModal();
  else if (!press(key)) return;
  event.preventDefault();
});
// r and c open their panel; a approves what is on the screen, but not what arrived there a moment ago: a key meant for
// the proposal before, or for a text field, must not decide on the next one unread.
const UNREAD_MS = 1500;
let arrivedAt = 0;
document.addEventListener('htmx:after:swap', () => { if (document.activeElement?.id === 'h') arrivedAt = Date.now(); });
const press = key => {
  const control = document.querySelector(`[aria-keyshortcuts="${CSS.escape(key)}"]`);
  if (!control || Date.now() - arrivedAt < UNREAD_MS) return false;
  if (control.tagName === 'SUMMARY') openPanel(control.parentElement);
  else control.click();
  return true;
};

// --- a decision under way cannot be sent twice
// A button that is off loses the focus, and gets it back where the page stays.
document.addEventListener('htmx:before:request', event => toggleSubmit(event, true));
document.addEventListener('htmx:finally:request', event => toggleSubmit(event, false));
let focused = null;
const toggleSubmit = (event, busy) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement)) return;
  if (busy) focused = form.contains(document.activeElement) ? document.activeElement : null;
  form.querySelectorAll('[type=submit]').forEach(button => { button.disabled = busy; });
  if (!busy && focused?.isConnected && document.activeElement === document.body) focused.focus();
};

// --- what is no part of this page never takes a part's place: htmx swaps whatever comes, a proxy's 503 page, too
const isPart = response => response.headers.get('Countersign-Part') === '1';
// Seconds that a server, or who stands before it, asks for: a number or a date. 0 where nothing can be made of it.
const askedFor = headers => {
  const said = headers.get('Retry-After') ?? '', sentAt = Date.parse(headers.get('Date')) || Date.now();
  const isNumber = /^\s*\d*\.?\d+\s*$/.test(said), isDate = /[a-z]/i.test(said);
  const wait = Math.ceil(isNumber ? Number(said) : isDate ? (Date.parse(said) - sentAt) / 1000 : 0);
  return wait > 0 ? Math.min(wait, 86_400) : 0;
};
const asWait = wait => {
  if (wait === 0) return 'a minute';
  if (wait < 120) return `${wait} s`;
  return wait < 7200 ? `${Math.ceil(wait / 60)} min` : `${Math.ceil(wait / 3600)} h`;
};
const reasonFor = (response, asked) => {
  if (!response) return 'No answer from the server.';
  const { status, headers } = response, number = headers.get('Error-Number');
  if (status === 400 || status === 408)
    return `The server could not read what was sent (${status}): nothing was recorded. Send it again.`;
  if (status === 401) {
    const then = asked ? ': nothing was recorded. Copy what you wrote, and reload the page to sign in' : '';
    return `You are signed out (401)${then}.`;
  }
  if (status === 413)
    return 'The server takes nothing as large as this (413), and has not recorded it. Shorten it and send it again.';
  if (status === 429)
    return `Too many requests (429): nothing was recorded. Wait ${asWait(askedFor(headers))} and try again.`;
  if (status >= 500) return `The server could not answer (${number ? `error ${number}` : status}).`;
  return `Something between here and the server has answered in its place (${status}); you may be signed out.`;
};
const OUTCOME_KNOWN = [400, 401, 408, 413, 429];
// A region that got no news asks again by itself: what comes back may have nothing new to nudge it with.
const AGAIN_S = 10, waits = new WeakSet();
const askAgain = (region, response) => {
  if (!region.matches?.('[hx-trigger^="nudge"]') || waits.has(region)) return;
  waits.add(region);
  setTimeout(() => {
    waits.delete(region);
    if (region.isConnected) region.dispatchEvent(new CustomEvent('nudge'));
  }, 1000 * Math.max(AGAIN_S * (1 + Math.random()), response ? askedFor(response.headers) : 0));
};
const complain = (source, response) => {
  const asked = source instanceof HTMLFormElement, reason = reasonFor(response, asked);
  // A decision may have been stored although no answer came: say so, and let the page be looked at again.
  const then = !asked ? ' What you see may be old: reload the page.'
    : OUTCOME_KNOWN.includes(response?.status) ? '' : ' Reload the page to see whether it was recorded.';
  const toasts = document.getElementById('toasts'), toast = document.createElement('div');
  toast.className = 'toast';
  const words = document.createElement('span'), away = document.createElement('button');
  words.textContent = reason + then;
  Object.assign(away, { type: 'button', className: 'btn icon sm', textContent: '\u00d7', ariaLabel: 'Dismiss' });
  away.dataset.dismiss = '';
  toast.append(words, away);
  if (!asked) { toast.dataset.old = ''; askAgain(source, response); }
  if (toasts?.querySelector('.toast span')?.textContent !== words.textContent) toasts?.replaceChildren(toast);
};
document.addEventListener('htmx:after:request', event => {
  const { ctx } = event.detail;
  if ([204, 304].includes(ctx.response.status) || ctx.hx?.redirect || ctx.hx?.refresh || isPart(ctx.response)) return;
  event.preventDefault();
  complain(ctx.sourceElement, ctx.response);
});
document.addEventListener('htmx:error', event => complain(event.detail.ctx?.sourceElement ?? event.target, null));
document.addEventListener('htmx:after:swap', () => document.querySelector('.toast[data-old]')?.remove());
