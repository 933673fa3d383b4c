"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const themes = read("themes"), records = read("records");  // run id -> [its label, the address of its record]

  // A chart is as wide as its card; a row of panels wraps where they would get narrower than 250 pixels.
  function fit(spec, width) {
    const gap = 20, axis = 84;
    if (spec.facet && spec.spec) {
      spec.columns = Math.max(1, Math.min(spec.columns || 3, Math.floor((width - axis + gap) / (250 + gap))));
      spec.spec.width = Math.max(160, Math.floor((width - axis - gap * (spec.columns - 1)) / spec.columns));
      spec.facet.header = { ...spec.facet.header, labelLimit: spec.spec.width };
    } else if (spec.mark || spec.layer) {
      spec.width = width;
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    return spec;
  }

  // What the pointer shows is text; a run's id is shown with its label.
  function shown(word) {
    const text = Object.hasOwn(records, word) ? `${records[word][0]} (${word})` : String(word);
    return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  }

  function openRecord(event, item) {
    const datum = item?.datum ?? {};
    for (const run of [datum.id, datum.run]) {
      if (Object.hasOwn(records, run) && records[run][1]) return void open(records[run][1], "_blank", "noopener");
    }
  }

  // The names on a channel of a chart, in their order.
  function names(spec, channel) {
    const encoding = (spec.layer ?? spec.spec?.layer ?? [spec])[0].encoding?.[channel];
    return encoding?.scale?.domain ?? (Array.isArray(encoding?.sort) ? encoding.sort : []);
  }

  async function draw(box) {
    const width = Math.floor(box.clientWidth);
    if (!width || (box.dataset.width === String(width) && box.dataset.scheme === String(dark.matches))) return;
    box.dataset.width = width;
    box.dataset.scheme = dark.matches;
    const large = document.getElementById(box.dataset.spec).textContent.length > 60000;  // too many marks for a tree of them
    const config = structuredClone(themes[dark.matches ? "dark" : "light"]);
    try {
      const spec = fit(read(box.dataset.spec), width), [arms, places] = [names(spec, "color"), names(spec, "x")];
      // As many columns of arms, and as much of the name of each place, as there is room for.
      const longest = Math.max(12, ...arms.map((name) => String(name).length)) * 7.5 + 40;
      config.legend.columns = Math.max(1, Math.floor((width - 80) / longest));
      config.legend.labelLimit = (width - 80) / config.legend.columns - 36;
      if (places.length) config.axisXDiscrete = { labelLimit: Math.max(40, (width - 90) / places.length - 8) };
      if (box.view) box.view.finalize();
      box.view = await vegaEmbed(box, spec, {
        mode: "vega-lite", renderer: large ? "canvas" : "svg", ast: true, config,
        actions: { export: true, source: false, compiled: false, editor: false },
        downloadFileName: box.dataset.spec.replace(/-spec$/, ""),
        tooltip: { theme: dark.matches ? "dark" : "light", sanitize: shown },
      });
      box.view.view.addEventListener("click", openRecord);
      box.dataset.drawn = "yes";
    } catch (error) {
      box.dataset.drawn = "no";
      box.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    }
  }

  // A chart is drawn when it comes near the screen; again where the width or the scheme has changed since.
  const boxes = [...document.querySelectorAll(".drawing")];
  const sight = new IntersectionObserver(async (entries) => {
    await Promise.all(entries.filter((entry) => entry.isIntersecting).map((entry) => draw(entry.target)));
    if (!performance.getEntriesByName("first charts").length) performance.mark("first charts");
  }, { rootMargin: "400px 0px" });
  let waiting;
  const look = () => boxes.forEach((box) => { sight.unobserve(box); sight.observe(box); });
  const redraw = () => { clearTimeout(waiting); waiting = setTimeout(look, 150); };
  look();
  dark.addEventListener("change", redraw);
  addEventListener("resize", redraw);
  addEventListener("beforeprint", () => boxes.forEach(draw));

  const collator = new Intl.Collator("en", { numeric: true });
  function order(heading) {
    const row = heading.parentElement, body = row.closest("table").tBodies[0], at = [...row.children].indexOf(heading);
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1, number = heading.classList.contains("number");
    for (const other of row.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const lines = [...body.rows].map((line) => {
      const value = line.children[at].dataset.sort;
      return { line, value: number ? parseFloat(value) : value };
    });
    const compare = number
      ? (a, b) => (isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : sign * (a - b))  // what is missing comes last
      : (a, b) => sign * collator.compare(a, b);
    body.append(...lines.sort((a, b) => compare(a.value, b.value)).map((one) => one.line));
  }
  document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => order(button.parentElement)));

  // Rows that have every word of the search, in any cell.
  document.querySelectorAll(".search").forEach((box) => {
    const rows = [...box.closest("figure").querySelector("tbody").rows], count = box.querySelector("output");
    const words = rows.map((row) => row.textContent.toLowerCase());
    box.hidden = false;
    box.querySelector("input").addEventListener("input", (event) => {
      const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = words.map((text) => wanted.every((word) => text.includes(word)));
      rows.forEach((row, place) => { row.hidden = !found[place]; });
      count.textContent = wanted.length ? `${found.filter(Boolean).length} of ${rows.length} rows` : "";
    });
  });
})();
