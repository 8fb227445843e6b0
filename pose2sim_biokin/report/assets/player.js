// The 3D skeleton, played in time with the curves.
"use strict";

const player = (() => {
  const element = (id) => document.getElementById(id);
  const [view, scrub, clock, playButton] = ["view", "scrub", "clock", "play"].map(element);
  const HOME = { eye: { x: 1.25, y: 1.05, z: 0.5 }, center: { x: 0, y: 0, z: -0.05 }, up: { x: 0, y: 0, z: 1 } };
  const last = time.length - 1;
  let frame = 0, playing = false, centre = "person", camera = HOME, drawn = false, started = 0, from = 0;
  const figures = report.figures.map((figure) => ({ ...figure, points: array(figure.points) }));

  const now = () => time[frame];

  /** Place of point i in a frame: world, metres, Z up. */
  const point = (figure, row, i) => figure.points.subarray(3 * (row * figure.count + i), 3 * (row * figure.count + i) + 3);

  const limits = bounds();

  /** What is taken off x and y so that the person stays in the middle. */
  function origin(figure, row) {
    if (centre === "room") return [0, 0, 0];
    const first = figures.find((f) => visible[f.source] && Number.isFinite(point(f, row, f.root)[0])) || figure;
    const root = point(centre === "pelvis" ? figure : first, row, figure === first || centre === "pelvis" ? figure.root : first.root);
    return [root[0], root[1], centre === "pelvis" ? root[2] - limits.pelvis : 0];
  }

  function bounds() {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity], pelvis = [];
    let reach = 0.7;
    for (const figure of figures) {
      for (let row = 0; row <= last; row += Math.max(1, Math.floor(last / 300))) {
        const root = point(figure, row, figure.root);
        if (Number.isFinite(root[2])) pelvis.push(root[2]);
        for (const link of figure.links) {
          const p = point(figure, row, link[0]);
          for (let k = 0; k < 3; k++) {
            if (p[k] < low[k]) low[k] = p[k];
            if (p[k] > high[k]) high[k] = p[k];
          }
          const away = Math.max(Math.abs(p[0] - root[0]), Math.abs(p[1] - root[1]));
          if (away > reach) reach = Math.min(away, 2);
        }
      }
    }
    pelvis.sort((a, b) => a - b);
    return { low, high, reach: reach + 0.1, pelvis: pelvis[pelvis.length >> 1] || 0 };
  }

  /** Bones of one figure as a line with breaks. */
  function bones(figure, row) {
    const [ox, oy, oz] = origin(figure, row);
    const x = [], y = [], z = [];
    for (const [a, b] of figure.links) {
      for (const i of [a, b]) {
        const p = point(figure, row, i);
        const seen = Number.isFinite(p[0]);
        x.push(seen ? p[0] - ox : null);
        y.push(seen ? p[1] - oy : null);
        z.push(seen ? p[2] - oz : null);
      }
      x.push(null);
      y.push(null);
      z.push(null);
    }
    return { x, y, z };
  }

  /** Limits of the scene along x, y and z. */
  function extent() {
    const { low, high, reach } = limits;
    const pad = 0.3, floor = low[2] - 0.03;
    const [x, y] = [0, 1].map((k) => (centre === "room" ? [low[k] - pad, high[k] + pad] : [-reach, reach]));
    return [x, y, [floor, Math.max(high[2] + 0.1, floor + 1.5)]];
  }

  /** Lines on the floor every half metre; they stay where they are in the room. */
  function ground(row) {
    const [x, y, [floor]] = extent(), lines = { x: [], y: [], z: [] };
    const [ox, oy] = centre === "pelvis" ? [0, 0] : origin(figures[0], row);
    const add = (x0, y0, x1, y1) => {
      lines.x.push(x0, x1, null);
      lines.y.push(y0, y1, null);
      lines.z.push(floor, floor, null);
    };
    for (let u = Math.ceil((x[0] + ox) / 0.5) * 0.5; u <= x[1] + ox; u += 0.5) add(u - ox, y[0], u - ox, y[1]);
    for (let v = Math.ceil((y[0] + oy) / 0.5) * 0.5; v <= y[1] + oy; v += 0.5) add(x[0], v - oy, x[1], v - oy);
    return lines;
  }

  function scene() {
    const [x, y, [floor, top]] = extent();
    const sizes = [x[1] - x[0], y[1] - y[0], top - floor];
    const unit = Math.max(...sizes) / 1.25;
    const plain = { showticklabels: false, title: { text: "" }, showspikes: false, zeroline: false, showbackground: false, showgrid: false, showline: false };
    return {
      xaxis: { ...plain, range: x }, yaxis: { ...plain, range: y }, zaxis: { ...plain, range: [floor, top] },
      aspectmode: "manual", aspectratio: { x: sizes[0] / unit, y: sizes[1] / unit, z: sizes[2] / unit },
      camera, dragmode: "turntable",
    };
  }

  function start() {
    scrub.addEventListener("input", () => (pause(), show(Number(scrub.value))));
    playButton.addEventListener("click", () => (playing ? pause() : play()));
    element("speed").addEventListener("change", () => playing && play());
    element("centre").addEventListener("change", (event) => {
      centre = event.target.value;
      draw();
      if (drawn) Plotly.relayout(view, { scene: scene() });
    });
    element("player").addEventListener("keydown", keys);
    show(0);
    if (!figures.length || !webgl()) {
      document.documentElement.classList.add("no-webgl");
      return;
    }
    const data = figures.map((figure) => {
      const source = report.sources[figure.source];
      const text = figure.links.flatMap(([a, b]) => ["", figure.marks[b] || "", ""]);
      return {
        type: "scatter3d", mode: "lines+markers+text", ...bones(figure, 0), text, name: source.label, hoverinfo: "none",
        line: { color: source.colour, width: 7, dash: source.dash3d }, textfont: { ...FONT, size: 13, color: source.colour },
        marker: { size: 3, color: source.colour, symbol: source.symbol3d }, textposition: "middle right", connectgaps: false,
      };
    });
    data.push({ type: "scatter3d", mode: "lines", ...ground(0), hoverinfo: "none", line: { color: "#aab1b8", width: 2 } });
    Plotly.newPlot(view, data, {
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: false, uirevision: "keep", scene: scene(),
    }, { ...CONFIG, scrollZoom: true });
    view.on("plotly_relayout", (change) => (camera = change["scene.camera"] || camera));
    drawn = true;
  }

  function webgl() {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl"));
    } catch {
      return false;
    }
  }

  /** Draw the skeletons of the present frame. */
  function draw() {
    if (!drawn) return;
    const parts = [...figures.map((figure) => bones(figure, frame)), ground(frame)];
    Plotly.restyle(view, {
      x: parts.map((p) => p.x), y: parts.map((p) => p.y), z: parts.map((p) => p.z), visible: [...figures.map((f) => visible[f.source]), true],
    }, parts.map((_, i) => i));
  }

  function show(row) {
    frame = Math.min(Math.max(row, 0), last);
    scrub.value = frame;
    clock.textContent = `${now().toFixed(2)} s`;
    scrub.setAttribute("aria-valuetext", `${now().toFixed(2)} seconds`);
    draw();
    placeCursors();
  }

  /** Go to the frame at or just before a time, in seconds. */
  function seek(seconds) {
    show(rowAt(seconds));
    if (playing) play();
  }

  function rowAt(seconds) {
    let low = 0, high = last;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (time[middle] <= seconds + 1e-4) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  function play() {
    if (!playing && frame === last) frame = 0;
    [started, from] = [performance.now(), now()];
    if (playing) return;
    playing = true;
    mark();
    requestAnimationFrame(tick);
  }

  function tick(moment) {
    if (!playing) return;
    const seconds = from + (Math.max(0, moment - started) / 1000) * Number(element("speed").value);
    const row = rowAt(seconds);
    if (row !== frame) show(row);
    if (row === last) pause();
    else requestAnimationFrame(tick);
  }

  function pause() {
    playing = false;
    mark();
  }

  function mark() {
    playButton.setAttribute("aria-pressed", playing);
    playButton.setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ",": -1, ".": 1 }[event.key];
    if (step) {
      pause();
      show(frame + step);
    } else if (event.key === " " && event.target === view) playButton.click();
    else if (event.target === view && drawn && turn(event.key)) Plotly.relayout(view, { "scene.camera": camera });
    else return;
    event.preventDefault();
  }

  /** Turn the camera by a key; false when the key means nothing. */
  function turn(key) {
    const { x, y, z } = camera.eye;
    const distance = Math.hypot(x, y, z), angle = Math.atan2(y, x), height = Math.asin(z / distance);
    const moves = {
      ArrowLeft: [-0.15, 0, 1], ArrowRight: [0.15, 0, 1], ArrowUp: [0, 0.12, 1], ArrowDown: [0, -0.12, 1],
      "+": [0, 0, 0.9], "=": [0, 0, 0.9], "-": [0, 0, 1 / 0.9], "0": null,
    };
    if (!(key in moves)) return false;
    if (key === "0") camera = HOME;
    else {
      const [around, up, zoom] = moves[key];
      const r = distance * zoom, a = angle + around, h = Math.min(Math.max(height + up, -1.5), 1.5);
      camera = { ...camera, eye: { x: r * Math.cos(h) * Math.cos(a), y: r * Math.cos(h) * Math.sin(a), z: r * Math.sin(h) } };
    }
    return true;
  }

  return { start, draw, seek, now, row: () => frame, playing: () => playing };
})();

player.start();
for (const button of document.querySelectorAll(".toggle")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    toggle(Number(button.dataset.source), on);
  });
}
for (const link of document.querySelectorAll("[data-seek]")) {
  link.addEventListener("click", () => player.seek(Number(link.dataset.seek)));
}
charts.forEach((chart) => watcher.observe(chart.element));
whenIdle();
// After the first paint with everything above in place: the page answers from here on.
requestAnimationFrame(() => setTimeout(() => {
  performance.mark("interactive");
  document.documentElement.dataset.ready = "true";
}));
