// The report's figures. Data come from #report-data (what to draw) and #report-arrays (float32, base64).
"use strict";

const report = JSON.parse(document.getElementById("report-data").textContent);
const bytes = Uint8Array.from(atob(document.getElementById("report-arrays").textContent.trim()), (c) => c.charCodeAt(0));

/** A view of an array that the page holds once: reference [offset, length] in numbers. */
const array = (ref) => new Float32Array(bytes.buffer, 4 * ref[0], ref[1]);

const time = array(report.time);
const visible = report.sources.map(() => true);
const touch = matchMedia("(pointer: coarse)").matches;
const FONT = { family: getComputedStyle(document.body).fontFamily, size: 11, color: "#6b7680" };
const NEUTRAL = "#78828c";
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset", scrollZoom: false };

const axis = (more) => ({
  gridcolor: "rgba(128,136,144,0.25)", zeroline: false, fixedrange: touch, automargin: false, ticks: "outside", ticklen: 4, tickcolor: "rgba(0,0,0,0)", nticks: 5, ...more,
});

const layout = (more) => ({
  margin: { l: 50, r: 6, t: 6, b: 30 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: FONT,
  showlegend: false, hovermode: "x unified", dragmode: touch ? false : "zoom",
  hoverlabel: { font: { ...FONT, color: "#1d2329" }, bgcolor: "rgba(255,255,255,0.94)", bordercolor: "#c9ced3" }, ...more,
});

const shown = (sources) => sources.every((i) => visible[i]);
const translucent = (hex, alpha) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16))},${alpha})`;

// Each kind of chart gives {data, layout}; `sources` of a trace says which toggles it needs to be seen.
const kinds = {
  /** Curves of one coordinate, and below them differences to the reference. */
  curves(spec) {
    const data = spec.lines.map((line) => {
      const source = report.sources[line.source];
      return {
        x: time, y: array(line.y), name: line.label || source.label, mode: "lines", sources: [line.source],
        line: { color: source.colour, dash: source.dash, width: 1.8 },
        hovertemplate: `%{y:.${spec.digits}f}${spec.unit}`, hoverlabel: { namelength: -1 },
      };
    });
    for (const line of spec.differences) {
      const source = report.sources[line.sources[0]];
      data.push({
        x: time, y: array(line.y), name: line.label, mode: "lines", yaxis: "y2", sources: line.sources,
        line: { color: source.colour, width: 1.2, dash: spec.differences.length > 1 ? source.dash : "solid" }, fill: spec.differences.length > 1 || array(line.y).some(Number.isNaN) ? "none" : "tozeroy",
        fillcolor: translucent(source.colour, 0.15), hovertemplate: `%{y:+.${spec.digits}f}${spec.unit}`, hoverlabel: { namelength: -1 },
      });
    }
    const below = spec.differences.length > 0;
    const title = { text: spec.unit_label, standoff: 4 };
    return {
      data,
      layout: layout({
        xaxis: axis({ ticksuffix: " s", anchor: below ? "y2" : "y", showspikes: false, hoverformat: ".2f" }),
        yaxis: axis({ domain: below ? [0.38, 1] : [0, 1], range: spec.range, title }),
        ...(below && { yaxis2: axis({ domain: [0, 0.27], range: spec.difference_range, zeroline: true, zerolinecolor: NEUTRAL, nticks: 4, title: { text: "diff.", standoff: 4 } }) }),
        shapes: report.shades.map(([from, to]) => ({
          type: "rect", yref: "paper", y0: 0, y1: 1, x0: from, x1: to, fillcolor: "rgba(140,120,60,0.20)", line: { width: 0 }, layer: "below",
        })),
      }),
      timed: true,
    };
  },

  /** Bland-Altman: difference over mean, with bias and limits as they stand in the comparison's file. */
  agreement(spec) {
    const source = report.sources[spec.sources[0]];
    const level = (y, dash) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: NEUTRAL, width: 1.3, dash } });
    return {
      data: [{
        x: array(spec.mean), y: array(spec.difference), mode: "markers", type: "scatter", sources: spec.sources, name: spec.label,
        marker: { size: 4, color: source.colour, opacity: 0.45, symbol: source.symbol },
        hovertemplate: `mean %{x:.1f}${spec.unit}<br>difference %{y:+.1f}${spec.unit}<extra></extra>`,
      }],
      layout: layout({
        hovermode: "closest", xaxis: axis({ ticksuffix: spec.unit }), yaxis: axis({ range: spec.range }),
        shapes: [level(spec.bias, "solid"), level(spec.upper, "dash"), level(spec.lower, "dash")],
      }),
    };
  },

  /** One row a segment, one mark a source. */
  segments(spec) {
    return {
      data: spec.lines.map((line, i) => {
        const source = report.sources[line.source];
        return {
          x: line.x, y: spec.rows, mode: "markers", type: "scatter", name: line.label || source.label, sources: [line.source],
          marker: { size: i ? 8 : 12, color: source.colour, symbol: source.symbol, line: { width: 1, color: source.colour } },
          hovertemplate: `%{y}: %{x:.1f} cm<extra>%{fullData.name}</extra>`,
        };
      }),
      layout: layout({
        hovermode: "closest", margin: { l: 10, r: 10, t: 6, b: 36 }, height: 60 + 24 * spec.rows.length,
        xaxis: axis({ rangemode: "tozero", ticksuffix: " cm", nticks: 8 }),
        yaxis: axis({ autorange: "reversed", type: "category", automargin: true, dtick: 1 }),
      }),
    };
  },

  /** What the cameras gave, frame by frame: shares from 0 to 1. */
  shares(spec) {
    return {
      data: spec.lines.map((line) => ({
        x: time, y: array(line.y), name: line.label, mode: "lines", sources: [],
        line: { color: line.colour, dash: line.dash, width: 1.5 }, hovertemplate: `%{y:.${spec.digits}f}`,
      })),
      layout: layout({
        xaxis: axis({ ticksuffix: " s", hoverformat: ".2f" }), yaxis: axis({ range: spec.range }), showlegend: true,
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 42, r: 6, t: 30, b: 30 },
      }),
      timed: true,
    };
  },
};

const charts = [...document.querySelectorAll("[data-chart]")].map((element) => ({ element, spec: report.charts[element.dataset.chart], built: false, stale: false, near: false }));

function build(chart) {
  if (chart.built) return;
  chart.built = true;
  const figure = kinds[chart.spec.kind](chart.spec);
  chart.sources = figure.data.map((trace) => trace.sources);
  for (const trace of figure.data) {
    trace.visible = shown(trace.sources);
    delete trace.sources;
  }
  if (figure.layout.height) chart.element.style.height = `${figure.layout.height}px`;
  Plotly.newPlot(chart.element, figure.data, figure.layout, CONFIG);
  remember(chart);
  chart.element.on("plotly_afterplot", () => remember(chart));
  if (!figure.timed) return;
  chart.cursor = document.createElement("div");
  chart.cursor.className = "cursor";
  chart.element.append(chart.cursor);
  chart.element.on("plotly_click", (event) => player.seek(event.points[0].x));
  place(chart);
}

/** A viewBox, so that the print style sheet can shrink the drawing. */
function remember(chart) {
  for (const svg of chart.element.querySelectorAll(".main-svg")) {
    const [width, height] = [svg.getAttribute("width"), svg.getAttribute("height")];
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.element.style.setProperty("--ratio", `${width} / ${height}`);
  }
}

/** The cursor line of a chart goes to the player's time. */
function place(chart) {
  if (!chart.cursor) return;
  const { xaxis, _size: size } = chart.element._fullLayout;
  const x = xaxis.l2p(player.now());
  const inside = x >= 0 && x <= xaxis._length;
  chart.cursor.style.cssText = `height:${size.h}px;transform:translate(${size.l + x}px,${size.t}px);display:${inside ? "block" : "none"}`;
}

function placeCursors() {
  for (const chart of charts) if (chart.near && chart.built) place(chart);
}

function refresh(chart) {
  chart.stale = false;
  if (chart.built) Plotly.restyle(chart.element, { visible: chart.sources.map(shown) });
}

/** Show or hide a source, in what is on the screen now and in the rest when there is time. */
function toggle(source, on) {
  visible[source] = on;
  for (const chart of charts) {
    chart.stale = true;
    if (chart.near) refresh(chart);
  }
  player.draw();
  whenIdle();
}

// Figures near the screen are made at once, the others one by one when the page has nothing else to do.
const later = window.requestIdleCallback || ((work) => setTimeout(() => work({ timeRemaining: () => 8 }), 30));
let waiting = false;

function whenIdle() {
  if (waiting) return;
  waiting = true;
  later((deadline) => {
    waiting = false;
    do {
      const next = charts.find((chart) => !chart.built || chart.stale);
      if (!next) {
        document.documentElement.dataset.complete = "true";
        return;
      }
      if (next.built) refresh(next);
      else build(next);
    } while (deadline.timeRemaining() > 12);
    whenIdle();
  });
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = charts.find((c) => c.element === entry.target);
    chart.near = entry.isIntersecting;
    if (!chart.near) continue;
    build(chart);
    if (chart.stale) refresh(chart);
    place(chart);
  }
}, { rootMargin: "200px" });

addEventListener("beforeprint", () => charts.forEach((chart) => (build(chart), chart.stale && refresh(chart))));
