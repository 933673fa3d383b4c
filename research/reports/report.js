"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const themes = read("themes");

  // A chart is as wide as its card; a row of panels wraps where they would get narrower than 250 pixels.
  function fit(spec, width) {
    const gap = 20, axis = 84;
    if (spec.facet && spec.spec) {
      spec.columns = Math.max(1, Math.min(spec.columns || 3, Math.floor((width - axis + gap) / (250 + gap))));
      spec.spec.width = Math.max(160, Math.floor((width - axis - gap * (spec.columns - 1)) / spec.columns));
    } else if (spec.mark || spec.layer) {
      spec.width = width;
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    return spec;
  }

  async function draw(box) {
    const width = Math.floor(box.clientWidth);
    if (box.dataset.width === String(width) && box.dataset.scheme === String(dark.matches)) return;
    box.dataset.width = width;
    box.dataset.scheme = dark.matches;
    const large = document.getElementById(box.dataset.spec).textContent.length > 60000;  // too many marks for a tree of them
    const config = structuredClone(themes[dark.matches ? "dark" : "light"]);
    config.legend.columns = Math.max(1, Math.floor(width / 190));
    try {
      if (box.view) box.view.finalize();
      box.view = await vegaEmbed(box, fit(read(box.dataset.spec), width), {
        mode: "vega-lite", renderer: large ? "canvas" : "svg", ast: true, config,
        actions: { export: true, source: false, compiled: false, editor: false },
        downloadFileName: box.dataset.spec.replace(/-spec$/, ""),
        tooltip: { theme: dark.matches ? "dark" : "light" },
      });
      box.dataset.drawn = "yes";
    } catch (error) {
      box.dataset.drawn = "no";
      box.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    }
  }

  const boxes = [...document.querySelectorAll(".drawing")];
  let waiting;
  const redraw = () => { clearTimeout(waiting); waiting = setTimeout(() => boxes.forEach(draw), 150); };
  boxes.forEach(draw);
  dark.addEventListener("change", redraw);
  addEventListener("resize", redraw);

  function order(heading) {
    const row = heading.parentElement, body = row.closest("table").tBodies[0], at = [...row.children].indexOf(heading);
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of row.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const value = (line) => line.children[at].dataset.sort;
    const compare = (a, b) => heading.classList.contains("number")
      ? (parseFloat(a) - parseFloat(b)) || Number(isNaN(parseFloat(a))) - Number(isNaN(parseFloat(b)))
      : a.localeCompare(b, "en", { numeric: true });
    [...body.rows].sort((a, b) => sign * compare(value(a), value(b))).forEach((line) => body.append(line));
  }
  document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => order(button.parentElement)));
})();
