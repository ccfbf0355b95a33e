"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const UNPREFIXED = new Set(["USD", "mm2", "C", "token/s", "query/s", "J/token", "J/B", "W/PFLOPS"]);
  const STEPS = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""],
    [1e-3, "m"], [1e-6, "u"], [1e-9, "n"], [1e-12, "p"], [1e-15, "f"]];
  const RANKS = ["#a9b0ba", "#eeb02e", "#cf4a1d", "#a58bd6", "#2f6fc4", "#0f7d43"];
  const PARTS = ["#0f6fb5", "#e08a1e", "#1a9470", "#c44f7b", "#7a5fb8", "#8c6d3f", "#5aa9dc", "#b9a800",
    "#5f6b7a", "#d0583f"];
  const MARKS = ["circle-open", "star-open", "diamond-open", "square-open"];
  const SYMBOLS = { met: "✓", missed: "✗", unknown: "?", infeasible: "⊘" };
  const FONT = { family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif",
    size: 13, color: "#1b2430" };
  // Buttons are named one by one: the library's own choice has one that uploads the plot.
  const CONFIG = { responsive: true, displaylogo: false, showTips: false, plotlyServerURL: "",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };

  // Numbers as pentarch.units shows them.
  const plain = (value, digits) => {
    const decimals = value === 0 ? 0
      : Math.min(12, Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value)))));
    return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  };
  const show = (value, unit) => {
    if (value === null || value === undefined) return "unknown";
    if (unit === "%") return `${plain(value * 100, 3)} %`;
    if (!unit) return Number.isInteger(value) ? value.toLocaleString("en-US") : plain(value, 3);
    if (value === 0) return `0 ${unit}`;
    if (unit === "s" && Math.abs(value) >= 999.5) return `${plain(value, 3)} s`;
    if (unit === "USD" && Math.abs(value) < 1e-4) return `${value.toExponential(2)} USD`;
    if (UNPREFIXED.has(unit)) return `${plain(value, 3)} ${unit}`;
    const size = Math.abs(value);
    const [factor, prefix] = STEPS.find(([step]) => size >= step * (1 - 0.5e-3)) || STEPS[STEPS.length - 1];
    return `${plain(value / factor, 3)} ${prefix}${unit}`;
  };
  // Sizes that are all whole KiB are designed so, and shown so.
  const BINARY = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];
  const showBinary = (value) => {
    const [factor, unit] = BINARY.find(([step]) => value % step === 0);
    return `${(value / factor).toLocaleString("en-US")} ${unit}`;
  };
  // Plotly reads a little HTML in its texts; a name is never meant as that.
  const safe = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const wrapped = (text, width) => safe(String(text).replace(
    new RegExp(`(.{1,${width}})(?:[\\s._/]+|$)|(.{${width}})`, "g"), (match) => `${match}\n`).trim()
  ).replace(/\n/g, "<br>");
  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const ticks = (unit) => {
    if (unit === "%") return { tickformat: ",.4~%" };
    if (!unit || UNPREFIXED.has(unit)) return { tickformat: ",.5~r" };
    return { tickformat: "~s", ticksuffix: unit };
  };

  // The colors by name; of one bar with several parts also their values and shares.
  const legend = (block, shown) => {
    const list = element("ul", undefined, "legend");
    const total = shown.reduce((sum, [, [value]]) => sum + value, 0);
    shown.forEach(([part, values], index) => {
      const item = element("li");
      const swatch = element("span", undefined, index >= PARTS.length ? "swatch striped" : "swatch");
      swatch.style.backgroundColor = PARTS[index % PARTS.length];
      item.append(swatch, part);
      if (block.bars.length === 1 && total > 0) {
        const share = show(values[0] / total, "%");
        item.append(" ", element("b", block.unit === "%" ? share : `${show(values[0], block.unit)}, ${share}`));
      }
      list.append(item);
    });
    return list;
  };

  const drawBars = (place, block) => {
    const narrow = place.clientWidth < 600;
    const names = block.bars.map((name) => wrapped(name, narrow ? 16 : 34));
    const shown = Object.entries(block.parts).filter(([, values]) => values.some((value) => value !== 0));
    const traces = shown.map(([part, values], index) => ({
      type: "bar", orientation: "h", name: wrapped(part, 40), y: block.bars.map((_, row) => row), x: values,
      marker: { color: PARTS[index % PARTS.length],
        pattern: { shape: index >= PARTS.length ? "/" : "", fgcolor: "#ffffff" } },
      text: values.map((value) => (value === 0 ? "" : show(value, block.unit))),
      textposition: "inside", insidetextanchor: "middle", textangle: 0, constraintext: "inside",
      hovertemplate: values.map((value, row) =>
        `${safe(block.bars[row])}<br>${safe(part)}: ${safe(show(value, block.unit))}<extra></extra>`),
    }));
    const lines = names.reduce((sum, name) => sum + Math.max(1.6, name.split("<br>").length), 0);
    place.before(legend(block, shown));
    Plotly.newPlot(place, traces, {
      barmode: "stack", font: FONT, height: 58 + 24 * lines, dragmode: false,
      margin: { l: 10, r: 24, t: 8, b: 36 }, bargap: 0.3, uniformtext: { mode: "hide", minsize: 11 },
      yaxis: { autorange: "reversed", automargin: true, tickvals: names.map((_, row) => row),
        ticktext: names, fixedrange: true },
      xaxis: { ...ticks(block.unit), gridcolor: "#e3e7ec", zerolinecolor: "#8b95a3", fixedrange: true,
        nticks: narrow ? 4 : 8, tickangle: 0 },
      showlegend: false, hoverlabel: { align: "left" },
    }, { ...CONFIG, displayModeBar: false });
  };

  const SERIES = [["#0f6fb5", "circle"], ["#d0583f", "square"], ["#1a9470", "diamond"], ["#7a5fb8", "x"]];
  const drawLogs = (place, block) => {
    const narrow = place.clientWidth < 600;
    const axis = (title, unit) => ({ title: { text: wrapped(`${title} (${unit})`, 44), standoff: 8 }, type: "log",
      ...ticks(unit), ...(unit === "FLOPS" ? {} : { ticksuffix: "" }), dtick: 1, gridcolor: "#e3e7ec",
      zeroline: false, automargin: true, linecolor: "#8b95a3", showline: true, ticks: "outside" });
    const lines = block.lines.map((line) => ({ type: "scatter", mode: "lines", x: line.x, y: line.y,
      line: { color: "#1b2430", width: line.dashed ? 1.2 : 2.2, dash: line.dashed ? "dot" : "solid" },
      hoverinfo: "skip", showlegend: false }));
    const points = [...new Set(block.groups)].map((group, rank) => {
      const kept = block.groups.map((name, index) => (name === group ? index : -1)).filter((index) => index >= 0);
      const [color, symbol] = SERIES[rank % SERIES.length];
      return { type: "scatter", mode: "markers", name: safe(group),
        x: kept.map((index) => block.x[index]), y: kept.map((index) => block.y[index]),
        marker: { color, symbol, opacity: 0.75, line: { width: 0.8, color: "#ffffff" },
          size: kept.map((index) => 7 + 36 * Math.sqrt(block.weights[index])) },
        hovertemplate: kept.map((index) => [`<b>${safe(block.labels[index])}</b>`, safe(group),
          `${safe(show(block.x[index], block.x_unit))}, ${safe(show(block.y[index], block.y_unit))}`,
          safe(block.texts[index])].join("<br>") + "<extra></extra>") };
    });
    // A slope is named at its start, a flat roof at its end; just inside, else the name is not drawn.
    const logs = (values) => values.map(Math.log10);
    const range = (values, below, above) => [Math.min(...logs(values)) - below, Math.max(...logs(values)) + above];
    const every = (axisName) => block[axisName].concat(...block.lines.map((line) => line[axisName]));
    const names = block.lines.map((line) => {
      const slope = line.y[0] !== line.y[1];
      const at = slope ? 0 : line.x.length - 1;
      return { x: Math.log10(line.x[at]), y: Math.log10(line.y[at]), text: safe(line.name), showarrow: false,
        xanchor: slope ? "left" : "right", yanchor: slope ? "top" : "bottom", xshift: slope ? 22 : -4,
        font: { size: 12 } };
    });
    const callouts = Object.entries(block.callouts).map(([text, [x, y]]) => ({ x: Math.log10(x), y: Math.log10(y),
      text: safe(text), showarrow: true, arrowhead: 2, ax: -100, ay: narrow ? 12 : -10, font: { size: 12 } }));
    Plotly.newPlot(place, [...lines, ...points], { font: FONT, hovermode: "closest", height: narrow ? 440 : 520,
      margin: { l: 20, r: 16, t: 40, b: 20 }, xaxis: { ...axis(block.x_title, block.x_unit),
        range: range(every("x"), 0.05, 0.05) },
      yaxis: { ...axis(block.y_title, block.y_unit), range: range(every("y"), 0.3, 0.45) }, annotations: [...names, ...callouts], showlegend: true,
      plot_bgcolor: "#ffffff", hoverlabel: { align: "left", bgcolor: "#ffffff", font: { color: "#1b2430" } },
      legend: { orientation: "h", itemsizing: "constant", y: narrow ? -0.25 : -0.16, yanchor: "top", x: 0 },
    }, CONFIG);
  };

  class Scatter {
    constructor(root, block) {
      this.root = root;
      this.block = block;
      this.place = root.querySelector(".plot");
      this.panel = root.querySelector(".panel");
      this.missing = root.querySelector("[data-missing]");
      this.axes = { x: { key: block.x, log: block.log_x }, y: { key: block.y, log: block.log_y } };
      this.chosen = null;
      const listed = new Set(Object.values(block.headings).flat());
      const rest = Object.keys({ ...block.columns, ...block.texts }).filter((key) => !listed.has(key));
      this.headings = Object.entries(block.headings).concat(rest.length ? [["further", rest]] : []);
      const extra = [...new Set(block.groups)].filter((name) => !block.group_order.includes(name));
      this.order = [...block.group_order, ...extra];
      this.binary = new Set(Object.keys(block.columns).filter((key) => this.unit(key) === "B"
        && block.columns[key].every((value) => value === null || value % 1024 === 0)));
      this.controls();
    }

    name(key) { return this.block.names[key] || key; }

    unit(key) { return this.block.units[key] || ""; }

    shown(key, index) {
      const value = this.block.columns[key][index];
      if (value > 0 && this.binary.has(key)) return showBinary(value);
      const sign = value > 0 && (key === "least_margin" || key.startsWith("margin.")) ? "+" : "";
      return sign + show(value, this.unit(key));
    }

    controls() {
      for (const axis of ["x", "y"]) {
        const select = this.root.querySelector(`[data-axis="${axis}"]`);
        const log = this.root.querySelector(`[data-log="${axis}"]`);
        for (const [heading, keys] of this.headings) {
          const group = element("optgroup");
          group.label = heading;
          for (const key of keys.filter((name) => name in this.block.columns)) {
            const option = element("option", this.name(key));
            option.value = key;
            group.append(option);
          }
          if (group.children.length) select.append(group);
        }
        select.value = this.axes[axis].key;
        log.checked = this.axes[axis].log;
        select.addEventListener("change", () => { this.axes[axis].key = select.value; this.draw(); });
        log.addEventListener("change", () => { this.axes[axis].log = log.checked; this.draw(); });
      }
      const pick = this.root.querySelector("[data-pick]");
      this.root.querySelector("datalist").append(...this.block.labels.map((label) => {
        const option = element("option");
        option.value = label;
        return option;
      }));
      pick.addEventListener("change", () => {
        const typed = pick.value.trim();
        const index = this.block.labels.findIndex((label) => label === typed || label.endsWith(` ${typed}`));
        if (index >= 0) this.choose(index);
        else this.panel.replaceChildren(element("p", `No design in this plot is called "${typed}".`));
      });
      this.root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    }

    drawable(index) {
      return ["x", "y"].every((axis) => {
        const value = this.block.columns[this.axes[axis].key][index];
        return value !== null && (!this.axes[axis].log || value > 0);
      });
    }

    hover(index) {
      const lines = [`<b>${safe(this.block.labels[index])}</b>`];
      for (const axis of ["x", "y"]) {
        const key = this.axes[axis].key;
        lines.push(`${safe(this.name(key))}: ${safe(this.shown(key, index))}`);
      }
      const [, first] = this.headings[0];
      for (const key of first.slice(0, 10)) {
        const text = key in this.block.columns
          ? this.shown(key, index) : this.block.texts[key][index];
        if (text !== null && text !== "unknown") lines.push(`${safe(this.name(key))} = ${safe(text)}`);
      }
      return `${lines.join("<br>")}<extra></extra>`;
    }

    trace(name, indices, marker, more) {
      const kept = indices.filter((index) => this.drawable(index));
      const column = (axis) => kept.map((index) => this.block.columns[this.axes[axis].key][index]);
      return { type: "scatter", mode: "markers", name: safe(name), x: column("x"), y: column("y"),
        customdata: kept, marker, hovertemplate: kept.map((index) => this.hover(index)), ...more };
    }

    traces() {
      const every = this.block.labels.map((_, index) => index);
      const last = Math.max(1, this.order.length - 1);
      const made = this.order.map((group, rank) => this.trace(
        group, every.filter((index) => this.block.groups[index] === group),
        { size: 7, opacity: 0.8, color: RANKS[Math.round((rank * (RANKS.length - 1)) / last)],
          line: { width: 0.5, color: "#ffffff" } }));
      Object.entries(this.block.marks).forEach(([name, indices], position) => {
        made.push(this.trace(name, indices, { size: 13 + 3 * position, color: "#1b2430",
          symbol: MARKS[position % MARKS.length], line: { width: 1.6 } }, { hoverinfo: "skip", hovertemplate: null }));
      });
      if (this.chosen !== null) {
        made.push(this.trace("chosen", [this.chosen], { size: 18, color: "#c2185b", symbol: "circle-open",
          line: { width: 3 } }, { hoverinfo: "skip", hovertemplate: null, showlegend: false }));
      }
      return made.filter((trace) => trace.x.length);
    }

    lines() {
      const shapes = [], annotations = [];
      const style = { color: "#a3241b", width: 1.5, dash: "dash" };
      for (const axis of ["x", "y"]) {
        const { key, log } = this.axes[axis];
        const value = this.block.thresholds[key];
        if (value === undefined || (log && value <= 0)) continue;
        const along = log ? Math.log10(value) : value;
        const text = `target ${safe(show(value, this.unit(key)))}`;
        const font = { color: "#a3241b", size: 12 };
        const ground = "rgba(255,255,255,0.85)";
        if (axis === "x") {
          shapes.push({ type: "line", x0: value, x1: value, yref: "paper", y0: 0, y1: 1, line: style });
          annotations.push({ x: along, yref: "paper", y: 1, yanchor: "bottom", text, font, showarrow: false });
        } else {
          shapes.push({ type: "line", y0: value, y1: value, xref: "paper", x0: 0, x1: 1, line: style });
          annotations.push({ xref: "paper", x: 1, xanchor: "right", y: along, yanchor: "bottom", text, font,
            showarrow: false, bgcolor: ground });
        }
      }
      return { shapes, annotations };
    }

    axis(name) {
      const { key, log } = this.axes[name];
      const unit = this.unit(key);
      const shown = unit && unit !== "%" ? `${this.name(key)} (${unit})` : this.name(key);
      return { title: { text: wrapped(shown, 44), standoff: 10 }, type: log ? "log" : "linear", ...ticks(unit),
        gridcolor: "#e3e7ec", zeroline: false, automargin: true, linecolor: "#8b95a3", showline: true,
        ticks: "outside", nticks: name === "x" && this.place.clientWidth < 600 ? 5 : undefined,
        ...(log ? { dtick: this.decades(key) > 2.5 ? 1 : "D2" } : {}) };
    }

    decades(key) {
      const values = this.block.columns[key].filter((value) => value > 0);
      const threshold = this.block.thresholds[key];
      if (threshold > 0) values.push(threshold);
      const logs = values.map(Math.log10);
      return logs.reduce((a, b) => Math.max(a, b), -Infinity) - logs.reduce((a, b) => Math.min(a, b), Infinity);
    }

    draw() {
      const narrow = this.place.clientWidth < 600;
      const layout = { font: FONT, hovermode: "closest", margin: { l: 20, r: 16, t: 28, b: 20 },
        xaxis: this.axis("x"), yaxis: this.axis("y"), ...this.lines(), showlegend: true,
        hoverlabel: { align: "left", bgcolor: "#ffffff", font: { color: "#1b2430" } },
        legend: { orientation: "h", itemsizing: "constant", y: narrow ? -0.3 : -0.16, yanchor: "top", x: 0 }, plot_bgcolor: "#ffffff" };
      Plotly.react(this.place, this.traces(), layout, CONFIG);
      const count = this.block.labels.filter((_, index) => !this.drawable(index)).length;
      this.missing.textContent = count ? `${count.toLocaleString("en-US")} of `
        + `${this.block.labels.length.toLocaleString("en-US")} designs are not drawn: they have no value on one of `
        + "these axes, or none above zero on a logarithmic one." : "";
    }

    start() {
      this.draw();
      this.place.on("plotly_click", (event) => this.choose(event.points[0].customdata));
      // Marks come in rising order of interest.
      const first = Object.values(this.block.marks).map((indices) => indices[0]).reverse()
        .find((index) => index !== undefined);
      if (first !== undefined) this.choose(first);
    }

    choose(index) {
      this.chosen = index;
      const { block } = this;
      const parts = [element("h4", block.labels[index]), element("p", block.groups[index])];
      const marks = Object.entries(block.marks).filter(([, indices]) => indices.includes(index));
      if (marks.length) parts[1].textContent += ` (${marks.map(([name]) => name).join(", ")})`;
      const verdicts = Object.entries(block.verdicts).filter(([, kinds]) => kinds[index] !== null);
      if (verdicts.length) {
        const list = element("dl");
        for (const [target, kinds] of verdicts) {
          const kind = kinds[index];
          const cell = element("dd");
          cell.append(element("span", `${SYMBOLS[kind] || ""} ${kind}`, "chip"));
          if (kind in SYMBOLS) cell.firstChild.classList.add(kind);
          list.append(element("dt", target), cell);
        }
        parts.push(element("h4", "verdicts"), list);
      }
      for (const [heading, keys] of this.headings) {
        const list = element("dl");
        for (const key of keys) {
          const isNumber = key in block.columns;
          const value = (isNumber ? block.columns : block.texts)[key][index];
          if (value === null && !isNumber) continue;
          const cell = element("dd", isNumber ? this.shown(key, index) : value);
          if (isNumber && value !== null) cell.title = String(value);
          list.append(element("dt", this.name(key)), cell);
        }
        if (list.children.length) parts.push(element("h4", heading), list);
      }
      this.panel.replaceChildren(...parts);
      this.draw();
    }
  }

  for (const place of document.querySelectorAll(".bars[data-plot]")) drawBars(place, plots[place.dataset.plot]);
  for (const place of document.querySelectorAll(".logs[data-plot]")) drawLogs(place, plots[place.dataset.plot]);
  for (const root of document.querySelectorAll("[data-scatter]")) {
    new Scatter(root, plots[root.dataset.scatter]).start();
  }

  // On paper: everything unfolded, plots as wide as the page.
  const folded = [];
  const resize = (width) => {
    for (const place of document.querySelectorAll(".plot")) Plotly.relayout(place, { width });
  };
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      folded.push(details);
    }
    resize(680);
  });
  window.addEventListener("afterprint", () => {
    for (const details of folded.splice(0)) details.open = false;
    resize(null);
  });
})();
