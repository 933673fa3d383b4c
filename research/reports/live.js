"use strict";
(() => {
  // What a reader is at is found again after loading: by the first thing on the screen, as charts above it are drawn late.
  const things = () => [...document.querySelectorAll("h1, h2, figure, p, tr")];
  const opened = () => [...document.querySelectorAll("details:not(.drawing details)")];  // a drawn chart has one, its menu
  const near = document.getElementById("live"), kept = history.state?.live;
  history.scrollRestoration = "manual";

  function leave() {
    const all = things(), at = all.findIndex((thing) => thing !== near && thing.getBoundingClientRect().bottom > 0);
    const place = scrollY && at >= 0 ? { at, above: all[at].getBoundingClientRect().top } : null;
    history.replaceState({ live: { place, open: opened().map((one) => one.open) } }, "");
    location.reload();
  }

  if (kept) {
    opened().forEach((one, index) => { one.open = kept.open[index] ?? one.open; });
    const thing = kept.place && things()[kept.place.at];
    const back = () => scrollBy({ top: thing.getBoundingClientRect().top - kept.place.above, behavior: "instant" });
    if (thing) {
      back();
      const watch = new ResizeObserver(back), stop = () => watch.disconnect();
      watch.observe(document.body);
      for (const kind of ["wheel", "touchstart", "keydown", "pointerdown"]) addEventListener(kind, stop, { once: true });
      setTimeout(stop, 3000);
    }
  }

  // Not while it would take something from the reader, nor where nobody looks.
  const busy = () => document.hidden || String(getSelection()) !== "" || [...document.querySelectorAll(".search input")]
    .some((box) => box.value !== "" || box === document.activeElement);
  const due = () => (busy() ? setTimeout(due, 1000) : leave());
  setTimeout(due, 1000 * near.dataset.seconds);
})();
