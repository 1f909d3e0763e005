// Runs before first paint, so that the chosen theme never flashes. Storage may be refused: then the system decides.
(() => {
  let chosen = null;
  try { chosen = localStorage.theme; } catch { /* private window */ }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
