"use strict";
// Draws the charts from the data block and filters what is shown. Every text is set as textContent.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const NS = "http://www.w3.org/2000/svg";
  const { models, datasets, protocols, cells } = data;
  const bySize = models.map((_, i) => i).sort((a, b) => sizeOf(a) - sizeOf(b) || a - b);
  const rank = new Map(bySize.map((m, i) => [m, i]));
  const several = data.temperatures.length > 1;
  const state = { model: -1, dataset: -1, protocol: -1, temperature: null };
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

  function sizeOf(m) {
    const one = models[m];
    return one.n ?? (one.low && one.high ? Math.sqrt(one.low * one.high) : Infinity);
  }

  // --- elements and numbers as text

  function el(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  }
  function svg(name, attributes = {}, text = null) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  }
  const minus = (text) => text.replace("-", "−");
  // As the tables say it: a half goes to the even digit (only x.25 ends in one), nothing has no sign.
  const tenths = (v) => (Math.abs(v) % 1 === 0.25 ? v - Math.sign(v) * 0.05 : v).toFixed(1);
  const points = (v) => { const text = v === null ? "—" : tenths(100 * v); return v === null ? text : !Number(text) ? "0.0" : minus((v > 0 ? "+" : "") + text); };
  const percent = (v) => (v === null ? "—" : tenths(100 * v));
  const english = (v, least, most) => v.toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: most });
  const cents = (v) => v >= 1 || v === Math.round(100 * v) / 100;
  const dollars = (v) => (v === null ? "—" : v === 0 ? "$0" : "$" + (cents(v) ? english(v, 2, 2) : english(+v.toPrecision(3), 0, 15)));
  function count(v) {
    for (const [unit, name] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) if (v >= unit * 0.9995) return +(v / unit).toPrecision(3) + name;
    return String(Math.round(v));
  }
  const range = (f, [v, low, high]) => f(v) + (low === null && high === null ? "" : ` [${low === null ? "−∞" : f(low)}, ${high === null ? "∞" : f(high)}]`);
  // Names of one family differ at their end: it is the middle that goes.
  const clip = (text, n) => (text.length > n ? text.slice(0, Math.floor(n * 0.35)) + "…" + text.slice(text.length - Math.ceil(n * 0.65) + 1) : text);
  const arm = (p, t) => protocols[p].name + (several ? ` T${t}` : "");
  const titleOf = (p, t) => arm(p, t) + (protocols[p].oracle ? " (upper bound)" : protocols[p].name === "resample" ? " (answering afresh)" : "");
  const label = (m) => `${models[m].name} (${models[m].size})`;
  const formName = (name) => ({ loglinear: "log-linear", power_floor: "power with floor", two_rate: "two-rate", error_rate: "error-rate" })[name] ?? name;
  const colour = (i) => `var(--c${((i % 8) + 8) % 8})`;

  // --- scales

  function ticksOf(kind, low, high, n) {
    const found = [];
    if (kind === "log") {
      const decades = Math.log10(high / low);
      const steps = decades > 2.2 ? [1] : decades > 0.8 ? [1, 3] : [1, 2, 5];
      const skip = Math.max(1, Math.ceil(decades / n));
      for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
        if (e % skip) continue;
        for (const s of steps) { const v = s * 10 ** e; if (v >= low * 0.999 && v <= high * 1.001) found.push(v); }
      }
      return found.length > 1 ? found : [low, high];
    }
    const raw = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((s) => s * power >= raw * 0.999);
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
    return found;
  }
  function scale(kind, [low, high], a, b) {
    const f = kind === "log" ? Math.log : (v) => v;
    const from = f(low), to = f(high) === from ? from + 1 : f(high);
    return (v) => a + ((b - a) * (f(v) - from)) / (to - from);
  }
  function extent(values, { zero = false, pad = 0.04 } = {}) {
    const real = values.filter((v) => v !== null && Number.isFinite(v));
    if (zero) real.push(0);
    if (!real.length) return [-0.1, 0.1];
    let low = Infinity, high = -Infinity;
    for (const v of real) { if (v < low) low = v; if (v > high) high = v; }
    const more = (high - low || 0.1) * pad;
    return [low - more, high + more];
  }
  const logExtent = (values, by = 1.35) => {
    const [low, high] = extent(values.filter((v) => v > 0), { pad: 0 });
    return low > 0 ? [low / by, high * by] : [1, 10];
  };

  // --- one drawing

  const SHAPES = [
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-3.6,-3.6h7.2v7.2h-7.2z", "M0,-4.8L4.6,3.4H-4.6z", "M0,-5L5,0L0,5L-5,0z",
    "M0,4.8L4.6,-3.4H-4.6z", "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", "M-4.8,0L3.4,4.6V-4.6z", "M4.8,0L-3.4,4.6V-4.6z",
  ];
  const shape = (i) => SHAPES[((i % 8) + 8) % 8];
  function glyph(i, colourOf, filled = true) {
    const box = svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
    box.append(svg("path", { d: shape(i), fill: filled ? colourOf : "var(--paper)", stroke: colourOf, "stroke-width": 1.5 }));
    return box;
  }
  const tip = el("div", { id: "tip", role: "status", "aria-live": "polite", hidden: "" });
  document.body.append(tip);
  function showTip(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 4)) + "px";
    tip.style.top = (y + 16 + box.height > innerHeight ? Math.max(4, y - box.height - 12) : y + 16) + "px";
  }
  const hideTip = () => { tip.hidden = true; };
  addEventListener("scroll", hideTip, { passive: true });

  // spec: title, width, height, x and y ({kind, domain, ticks, label}) or rows, marks, lines, bands, hatched
  function draw(host, spec) {
    const W = Math.max(220, host.clientWidth || 340), rows = spec.rows;
    const longest = rows ? Math.max(...rows.map((row) => (row.group ? 0 : row.text.length))) : 0;
    const gutter = rows ? Math.max(60, Math.min(W * 0.42, 16 + 7.2 * longest)) : 46;
    const left = gutter, right = W - 10, top = 8, step = 17;
    const H = rows ? rows.length * step + 44 : spec.height || 250;
    const bottom = H - (spec.x.label ? 38 : 24);
    const x = scale(spec.x.kind, spec.x.domain, left, right);
    const y = rows ? (i) => top + step * (i + 0.5) : scale(spec.y.kind, spec.y.domain, bottom, top);
    const root = svg("svg", { width: W, height: H, viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: 0, "aria-label": `${spec.title}. ${spec.marks.length} marks; arrow keys go from one to the next.` });
    root.dataset.marks = spec.marks.length;
    const put = (name, attributes, text) => root.appendChild(svg(name, attributes, text));
    for (const [a, b] of spec.hatched || []) {
      const from = Math.max(left, x(a)), to = Math.min(right, x(b));
      if (to - from > 2) put("rect", { class: "hatched", x: from, y: top, width: to - from, height: bottom - top });
      if (to - from > 70) put("text", { x: (from + to) / 2, y: top + 11, "text-anchor": "middle" }, "extrapolation");
    }
    for (const v of spec.x.ticks || ticksOf(spec.x.kind, ...spec.x.domain, Math.max(2, Math.floor((right - left) / (spec.x.wide || 42))))) {
      put("line", { class: v === 0 && rows ? "zero" : "grid", x1: x(v), x2: x(v), y1: top, y2: bottom });
      put("text", { x: x(v), y: bottom + 15, "text-anchor": "middle" }, spec.x.format(v));
    }
    if (!rows) for (const v of ticksOf(spec.y.kind, ...spec.y.domain, 5)) {
      put("line", { class: v === 0 && spec.y.zero ? "zero" : "grid", x1: left, x2: right, y1: y(v), y2: y(v) });
      put("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, spec.y.format(v));
    }
    put("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
    if (spec.x.label) put("text", { x: (left + right) / 2, y: H - 4, "text-anchor": "middle" }, spec.x.label);
    if (rows) rows.forEach((row, i) => {
      const text = put("text", { class: row.group ? "group" : "name", x: row.group ? 0 : left - 8, y: y(i) + 4, "text-anchor": row.group ? "start" : "end" }, row.group ? row.text : clip(row.text, Math.floor((gutter - 10) / 7.2)));
      if (text.textContent !== row.text) text.append(svg("title", {}, row.text));
    });
    for (const one of spec.bands || []) {
      const up = one.points.map(([a, , high]) => `${x(a)},${y(high)}`), down = one.points.map(([a, low]) => `${x(a)},${y(low)}`).reverse();
      put("polygon", { points: [...up, ...down].join(" "), fill: one.colour, opacity: 0.16 });
    }
    for (const one of spec.lines || []) put("polyline", { points: one.points.map(([a, b]) => `${x(a)},${y(b)}`).join(" "), fill: "none", stroke: one.colour, "stroke-width": one.width || 1.6, "stroke-dasharray": one.dash || "none", opacity: one.opacity || 1 });
    const placed = spec.marks.map((mark) => {
      const px = mark.x === null ? null : x(mark.x), py = y(mark.y);
      const group = put("g", {});
      const inside = (v) => Math.max(left, Math.min(right, v));
      if (mark.bar) {
        const x0 = x(0);
        group.append(svg("rect", { x: Math.min(x0, px), y: py - 5, width: Math.abs(px - x0), height: 10, fill: mark.colour, opacity: mark.faint ? 0.55 : 1 }));
      }
      if (mark.xs && mark.ys) group.append(svg("rect", { x: inside(x(mark.xs[0])), width: inside(x(mark.xs[1])) - inside(x(mark.xs[0])), y: y(mark.ys[1]), height: y(mark.ys[0]) - y(mark.ys[1]), fill: mark.colour, opacity: 0.13 }));
      if (mark.xs) group.append(svg("line", { class: "range", x1: inside(mark.xs[0] === null ? left : x(mark.xs[0])), x2: inside(mark.xs[1] === null ? right : x(mark.xs[1])), y1: py, y2: py, stroke: mark.colour }));
      if (mark.ys && px !== null) group.append(svg("line", { class: "range", x1: px, x2: px, y1: y(mark.ys[0]), y2: y(mark.ys[1]), stroke: mark.colour }));
      if (!mark.bar && px !== null) group.append(svg("path", { d: shape(mark.shape || 0), transform: `translate(${px},${py})`, fill: mark.hollow ? "var(--paper)" : mark.colour, stroke: mark.colour, "stroke-width": 1.5 }));
      if (mark.ring) group.append(svg("circle", { cx: px, cy: py, r: 8, fill: "none", stroke: mark.colour, "stroke-width": 1.2 }));
      return { mark, px: px ?? (mark.xs ? inside(x(mark.xs[0])) : left), py };
    });
    // Names of marks that have one, where they run into no other name.
    const taken = [];
    for (const { mark, px, py } of placed) {
      if (!mark.name) continue;
      const name = clip(mark.name, right - left < 420 ? 12 : 26), wide = name.length * 6.2, flip = px + wide + 12 > right;
      const box = [flip ? px - wide - 10 : px + 10, py - 8, flip ? px - 10 : px + wide + 10, py + 6];
      if (taken.some((t) => box[0] < t[2] && box[2] > t[0] && box[1] < t[3] && box[3] > t[1])) continue;
      taken.push(box);
      put("text", { class: "mark", x: flip ? px - 10 : px + 10, y: py + 4, "text-anchor": flip ? "end" : "start" }, name);
    }
    const cursor = put("circle", { class: "here", r: 9, visibility: "hidden" });
    let at = -1;
    const show = (i) => {
      at = i;
      const { mark, px, py } = placed[i], box = root.getBoundingClientRect();
      cursor.setAttribute("cx", px); cursor.setAttribute("cy", py); cursor.setAttribute("visibility", "visible");
      showTip(mark.text, box.left + px, box.top + py);
    };
    const leave = () => { cursor.setAttribute("visibility", "hidden"); hideTip(); };
    root.addEventListener("pointermove", (event) => {
      const box = root.getBoundingClientRect(), mx = event.clientX - box.left, my = event.clientY - box.top;
      let best = -1, least = rows ? step : 26;
      placed.forEach(({ px, py }, i) => {
        const d = rows ? Math.abs(my - py) + Math.abs(mx - px) / 1e4 : Math.hypot(mx - px, my - py);
        if (d < least) { least = d; best = i; }
      });
      if (best < 0) leave(); else if (best !== at || tip.hidden) show(best);
    });
    root.addEventListener("pointerleave", leave);
    root.addEventListener("blur", leave);
    root.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -1e9, End: 1e9 }[event.key];
      if (event.key === "Escape") leave();
      if (!move || !placed.length) return;
      event.preventDefault();
      show(Math.max(0, Math.min(placed.length - 1, at < 0 ? 0 : at + move)));
    });
    host.append(root);
  }

  // --- charts: each gives panels, a legend, and what is drawn as a table

  const passes = ([m, d, p], t) =>
    (state.model < 0 || m < 0 || m === state.model) && (state.dataset < 0 || d < 0 || d === state.dataset) &&
    (state.protocol < 0 || p < 0 || p === state.protocol) && (state.temperature === null || t === null || t === state.temperature);
  const shown = () => cells.filter((c) => passes(c.at, c.t) && !c.withheld && c.delta[0] !== null);
  const order = (a, b) => a.at[2] - b.at[2] || a.t - b.t || rank.get(a.at[0]) - rank.get(b.at[0]);
  const sure = (c) => c.p !== null && c.p < 0.05;
  const about = (c) => `${label(c.at[0])}\n${datasets[c.at[1]].name}, ${arm(c.at[2], c.t)}`;
  const known = (list) => [...new Set(list)];
  const control = (name) => $(`[data-control="${name}"]`);
  const valueOf = (name) => control(name)?.value ?? "";

  function rowsOf(own) {
    const rows = [], places = new Map();
    let before = null;
    for (const c of own.sort(order)) {
      const group = arm(c.at[2], c.t);
      if (group !== before) rows.push({ group: true, text: titleOf(c.at[2], c.t) });
      before = group;
      places.set(c, rows.length);
      rows.push({ text: models[c.at[0]].name });
    }
    return { rows, places };
  }
  function perDataset(own, panel) {
    return known(own.map((c) => c.at[1])).sort((a, b) => a - b).map((d) => panel(d, own.filter((c) => c.at[1] === d)));
  }
  function forest(own) {
    const domain = extent(own.flatMap((c) => c.delta), { zero: true });
    const panels = perDataset(own, (d, part) => {
      const { rows, places } = rowsOf(part);
      return {
        title: datasets[d].name, rows, x: { kind: "linear", domain, format: (v) => minus((100 * v).toFixed(0)), label: "change of accuracy, points" },
        marks: part.map((c) => ({
          x: c.delta[0], y: places.get(c), xs: [c.delta[1], c.delta[2]], colour: colour(c.at[2]), shape: c.at[2], hollow: !sure(c) && !c.gate,
          text: `${about(c)}\nchange ${range(points, c.delta)} points\nfirst ${percent(c.first[0])} %, last ${percent(c.last[0])} %` +
            (c.fixed === null ? "" : `\nfixed ${c.fixed}, broken ${c.broken} of ${c.n}`) + (c.missing ? `\nmissing ${c.missing}` : "") + (c.p === null ? "" : `\np (Holm) ${c.p < 0.001 ? "< 0.001" : c.p.toFixed(3)}`),
          row: [label(c.at[0]), datasets[d].name, arm(c.at[2], c.t), points(c.delta[0]), points(c.delta[1]), points(c.delta[2])],
        })),
      };
    });
    return { panels, columns: ["model", "dataset", "protocol", "change, points", "low", "high"] };
  }
  const charts = {
    forest: () => forest(shown().filter((c) => !c.gate)),
    oracles: () => forest(shown().filter((c) => c.gate)),
    flips() {
      const own = shown().filter((c) => c.fixed !== null && c.n);
      const domain = extent(own.flatMap((c) => [c.fixed / c.n, -c.broken / c.n]), { zero: true });
      const panels = perDataset(own, (d, part) => {
        const { rows, places } = rowsOf(part);
        const bar = (c, share, word) => ({
          x: share, y: places.get(c), bar: true, colour: word === "fixed" ? colour(2) : colour(1),
          text: `${about(c)}\nfixed ${c.fixed}, broken ${c.broken} of ${c.n}`,
          row: [label(c.at[0]), datasets[d].name, arm(c.at[2], c.t), word, word === "fixed" ? c.fixed : c.broken, c.n],
        });
        return { title: datasets[d].name, rows, x: { kind: "linear", domain, format: (v) => (100 * Math.abs(v)).toFixed(0), label: "← broken, %\u2003\u2003fixed, % →" },
          marks: part.flatMap((c) => [bar(c, -c.broken / c.n, "broken"), bar(c, c.fixed / c.n, "fixed")]) };
      });
      return { panels, columns: ["model", "dataset", "protocol", "flip", "samples", "of"], legend: [["bar", colour(1), "broken"], ["bar", colour(2), "fixed"]] };
    },
    turns() {
      const d = chosen("turns"), own = shown().filter((c) => c.at[1] === d);
      const known_ = new Set(own), rows = data.turns.filter(([c]) => known_.has(cells[c]));
      const domain = extent(rows.map((r) => r[2]), { pad: 0.06 });
      const last = Math.max(1, ...rows.map((r) => r[1]));
      const panels = known(own.sort(order).map((c) => arm(c.at[2], c.t))).map((name) => {
        const part = rows.filter(([c]) => arm(cells[c].at[2], cells[c].t) === name);
        const some = cells[part[0][0]];
        const lines = known(part.map((r) => r[0])).map((c) => ({ colour: shade(cells[c].at[0]), width: 1.4, points: part.filter((r) => r[0] === c).map((r) => [r[1], r[2]]) }));
        return {
          title: titleOf(some.at[2], some.t), height: 230, lines, x: { kind: "linear", domain: [-0.15, last + 0.15], ticks: [...Array(last + 1).keys()], format: String, label: "turn" },
          y: { kind: "linear", domain, format: (v) => (100 * v).toFixed(0) + " %" },
          marks: part.map(([c, turn, ...accuracy]) => ({ x: turn, y: accuracy[0], colour: shade(cells[c].at[0]), shape: form(cells[c].at[0]), text: `${about(cells[c])}\nturn ${turn}: ${range(percent, accuracy)} %`,
            row: [label(cells[c].at[0]), datasets[d].name, name, turn, percent(accuracy[0]), percent(accuracy[1]), percent(accuracy[2])] })),
        };
      });
      return { panels, columns: ["model", "dataset", "protocol", "turn", "accuracy, %", "low", "high"], legend: bySize.filter((m) => own.some((c) => c.at[0] === m)).map((m) => [form(m), shade(m), label(m)]) };
    },
    scaling() {
      const d = chosen("scaling"), xs = valueOf("x"), ys = valueOf("y"), each = valueOf("forms") === "all";
      const all = datasets[d].name === "all datasets";
      const place = (m) => (xs === "n" ? models[m].n : xs === "active" ? models[m].active ?? models[m].n : xs === "flops" ? models[m].flops : models[m].price);
      const own = cells.filter((c) => passes(all ? c.at : [c.at[0], -1, c.at[2]], c.t) && !c.gate && !c.withheld && c[ys][0] !== null && (all || c.at[1] === d));
      // Over all datasets a mark with an interval is a model's mean; the cells it is made of are hollow.
      const means = all && ys === "delta" ? data.means.filter((c) => passes(c.at, c.t) && c.delta[0] !== null) : [];
      const beside = means.length > 0;
      const curves = xs === "n" && ys === "delta" ? data.curves.filter((c) => c.d === d && passes([-1, -1, c.p], c.t) && (each ? c.form !== "average" : c.form === "average")) : [];
      const spots = own.flatMap((c) => { const one = models[c.at[0]]; return xs === "n" && one.n === null ? [one.low, one.high] : [place(c.at[0])]; });
      const sizes = curves.flatMap((c) => c.points.map((p) => p[0]));
      const domain = logExtent([...spots, ...sizes], sizes.length ? 1 : 1.5);
      const tall = extent([...own.flatMap((c) => (beside ? [c[ys][0]] : c[ys])), ...means.flatMap((c) => c[ys])], { zero: ys === "delta", pad: 0.08 });
      const names = known(own.sort(order).map((c) => arm(c.at[2], c.t)));
      const panels = names.map((name) => {
        const part = [...own, ...means].filter((c) => arm(c.at[2], c.t) === name), fits = curves.filter((c) => arm(c.p, c.t) === name);
        const hold = ([a, ...rest]) => [a, ...rest.map((v) => Math.max(tall[0], Math.min(tall[1], v ?? 0)))];
        const lines = [], bands = [];
        fits.forEach((c, i) => {
          const [low, high] = c.studied;
          const tint = each ? colour(i) : colour(part[0].at[2]);
          const pieces = [c.points.filter((p) => p[0] <= low), c.points.filter((p) => p[0] >= low && p[0] <= high), c.points.filter((p) => p[0] >= high)];
          pieces.forEach((piece, k) => lines.push({ colour: tint, width: 1.8, dash: k === 1 ? "none" : "4 4", points: piece.map((p) => hold([p[0], p[1]])) }));
          if (!each) bands.push({ colour: tint, points: c.points.filter((p) => p[2] !== null).map((p) => hold([p[0], p[2], p[3]])) });
        });
        const far = fits.length ? fits[0].points.filter((p) => p[6]).map((p) => p[0]) : [];
        const [least, most] = fits.length ? fits[0].studied : [0, Infinity];
        const below = far.filter((v) => v < least), above = far.filter((v) => v > most);
        const hatched = [...(below.length ? [[domain[0], Math.max(...below)]] : []), ...(above.length ? [[Math.min(...above), domain[1]]] : [])];
        return {
          title: titleOf(part[0].at[2], part[0].t), height: 270, lines, bands, hatched,
          x: { kind: "log", domain, wide: 56, format: xs === "price" ? dollars : xs === "flops" ? (v) => v.toExponential(0) : count, label: { n: "parameters", active: "active parameters", flops: "training FLOPs", price: "dollars per million tokens out" }[xs] },
          y: { kind: "linear", domain: tall, zero: ys === "delta", format: (v) => minus((100 * v).toFixed(0)) + (ys === "delta" ? "" : " %") },
          marks: part.filter((c) => place(c.at[0]) > 0 || (xs === "n" && models[c.at[0]].low)).map((c) => {
            const one = models[c.at[0]], guess = xs === "n" && one.n === null;
            return { x: guess ? null : place(c.at[0]), xs: guess ? [one.low, one.high] : null, y: c[ys][0], ys: beside && c.at[1] !== d ? null : [c[ys][1] ?? c[ys][0], c[ys][2] ?? c[ys][0]], colour: colour(c.at[2]), shape: all ? c.at[1] : 0, hollow: beside && c.at[1] !== d,
              text: `${label(c.at[0])}, size ${one.source}\n${datasets[c.at[1]].name}, ${name}\n${range(ys === "delta" ? points : percent, c[ys])}`,
              row: [label(c.at[0]), one.source, datasets[c.at[1]].name, name, ...c[ys].map(ys === "delta" ? points : percent)] };
          }),
          more: fits.flatMap((c) => c.points.map((p) => [count(p[0]), p[6] ? "extrapolated" : "form", datasets[d].name, `${name}: ${formName(c.form)}`, points(p[1]), points(p[2]), points(p[3])])),
        };
      });
      const forms = each ? known(curves.map((c) => c.form)).map((f, i) => ["line", colour(i), formName(f)]) : [];
      const kinds = all ? known([...means, ...own].map((c) => c.at[1])).map((k) => [k, "var(--soft)", k === d ? "mean over datasets" : datasets[k].name, beside && k !== d]) : [];
      const why = known(data.refused.filter((r) => r[0] === d && passes([-1, -1, r[1]], r[2])).map((r) => `No curve for ${arm(r[1], r[2])}: ${r[3]}.`));
      return { panels, notes: why, columns: ["model or size", "is", "dataset", "protocol", { delta: "change, points", first: "first, %", last: "last, %" }[ys], "low", "high"], legend: [...kinds, ...forms] };
    },
    frontier() {
      const d = chosen("frontier");
      const own = data.frontier.filter((c) => passes([c.at[0], -1, c.at[2]], c.t) && c.at[1] === d && c.cost[0] !== null);
      const free = own.some((c) => !(c.cost[0] > 0));
      const costs = own.map((c) => c.cost[0]);
      const first = (c) => protocols[c.at[2]].name === "first answer";
      const panel = {
        title: datasets[d]?.name ?? "", height: 400, x: { kind: free ? "linear" : "log", domain: free ? extent(costs, { zero: true }) : logExtent(costs), wide: 70, format: (v) => dollars(1000 * v), label: "dollars per 1,000 items, as deployed" },
        y: { kind: "linear", domain: extent(own.flatMap((c) => c.accuracy), { pad: 0.03 }), format: (v) => (100 * v).toFixed(0) + " %" },
        marks: own.map((c) => ({ x: c.cost[0], y: c.accuracy[0], ys: [c.accuracy[1] ?? c.accuracy[0], c.accuracy[2] ?? c.accuracy[0]], colour: colour(first(c) ? 6 : c.at[2]), shape: first(c) ? 1 : c.at[2] === 1 ? 5 : c.at[2], hollow: first(c), ring: c.share >= 0.5, name: c.share >= 0.5 ? models[c.at[0]].name : "",
          text: `${label(c.at[0])}, ${arm(c.at[2], c.t)}\naccuracy ${range(percent, c.accuracy)} %\n${range((v) => dollars(1000 * v), c.cost)} per 1,000 items\nundominated in ${(100 * c.share).toFixed(0)} % of replicates`,
          row: [label(c.at[0]), datasets[d].name, arm(c.at[2], c.t), dollars(1000 * c.cost[0]), percent(c.accuracy[0]), percent(c.accuracy[1]), percent(c.accuracy[2]), (100 * c.share).toFixed(0) + " %"] })),
      };
      const kinds = known(own.map((c) => c.at[2])).sort((a, b) => a - b);
      return { panels: own.length ? [panel] : [], wide: true, columns: ["model", "dataset", "protocol", "cost per 1,000 items", "accuracy, %", "low", "high", "undominated"],
        legend: kinds.map((p) => (protocols[p].name === "first answer" ? [1, colour(6), "first answer", true] : [p === 1 ? 5 : p, colour(p), protocols[p].name])) };
    },
    worth() {
      const d = chosen("worth");
      const own = data.worth.filter(([c, , share]) => passes([cells[c].at[0], -1, cells[c].at[2]], cells[c].t) && cells[c].at[1] === d && share !== null);
      const domain = logExtent(data.worths, 1.6), later = (t) => t !== data.temperatures[0];
      const panels = bySize.filter((m) => own.some(([c]) => cells[c].at[0] === m)).map((m) => {
        const part = own.filter(([c]) => cells[c].at[0] === m);
        return {
          title: label(m), height: 190, x: { kind: "log", domain, wide: 60, format: dollars, label: "worth of one more right answer" },
          y: { kind: "linear", domain: [-0.04, 1.04], format: (v) => (100 * v).toFixed(0) + " %" },
          // The further temperatures are broken lines with hollow marks.
          lines: known(part.map((r) => r[0])).map((c) => ({ colour: colour(cells[c].at[2]), dash: later(cells[c].t) ? "4 3" : "none", points: part.filter((r) => r[0] === c).map((r) => [r[1], r[2]]) })),
          marks: part.map(([c, usd, share]) => ({ x: usd, y: share, colour: colour(cells[c].at[2]), shape: cells[c].at[2], hollow: later(cells[c].t), text: `${about(cells[c])}\nat ${dollars(usd)} a right answer it pays in ${(100 * share).toFixed(0)} % of replicates`,
            row: [label(m), datasets[d].name, arm(cells[c].at[2], cells[c].t), dollars(usd), (100 * share).toFixed(0) + " %"] })),
        };
      });
      return { panels, columns: ["model", "dataset", "protocol", "worth", "pays in"], legend: known(own.map(([c]) => arm(cells[c].at[2], cells[c].t))).map((name) => {
        const some = cells[own.find(([c]) => arm(cells[c].at[2], cells[c].t) === name)[0]];
        return [some.at[2], colour(some.at[2]), name, later(some.t)];
      }) };
    },
  };
  // Sizes from light to dark would vanish into one of the two papers: hues, and shapes beside them.
  const shade = (m) => colour(rank.get(m));
  const form = (m) => rank.get(m) + 3 * Math.floor(rank.get(m) / 8);

  function chosen(name) {
    const pick = control(name);
    return pick && pick.value !== "" ? Number(pick.value) : 0;
  }
  function render(name) {
    const host = $(`[data-chart="${name}"]`);
    if (!host) return;
    const made = charts[name]();
    host.replaceChildren();
    host.classList.toggle("wide", Boolean(made.wide));
    for (const text of made.notes || []) host.append(el("p", {}, text));
    if (!made.panels.length) host.append(el("p", {}, "Nothing to show with these filters."));
    // The places first, then the drawings: a place knows its width only among its neighbours.
    const places = made.panels.map((panel) => host.appendChild(el("div", { class: "panel" }, el("h4", {}, panel.title))));
    made.panels.forEach((panel, i) => draw(places[i], panel));
    $(`[data-legend="${name}"]`).replaceChildren(...(made.legend || []).map(([kind, tint, text, hollow]) => {
      if (typeof kind === "number") return el("span", {}, glyph(kind, tint, !hollow), text);
      const box = svg("svg", { width: 16, height: 12, "aria-hidden": "true" });
      box.append(kind === "line" ? svg("line", { x1: 0, x2: 16, y1: 6, y2: 6, stroke: tint, "stroke-width": 2 }) : svg("rect", { width: 14, height: 10, y: 1, fill: tint }));
      return el("span", {}, box, text);
    }));
    const table = $(`[data-table="${name}"]`);
    table.replaceChildren();
    const fill = () => table.replaceChildren(tableOf(made.columns, made.panels.flatMap((p) => [...p.marks.map((m) => m.row), ...(p.more || [])])));
    const details = table.closest("details");
    details.ontoggle = () => { if (details.open) fill(); };
    if (details.open) fill();
  }
  function tableOf(columns, rows) {
    const head = el("tr", {}, ...columns.map((c) => el("th", { scope: "col" }, c)));
    const body = rows.map((row) => el("tr", {}, ...row.map((v, i) => (i ? el("td", {}, String(v)) : el("th", { scope: "row" }, String(v))))));
    return el("table", {}, el("thead", {}, head), el("tbody", {}, ...body));
  }

  // --- long tables, filters, transcripts

  for (const host of $$("[data-findings]")) {
    const details = host.closest("details"), { rows, texts } = data.findings[host.dataset.findings];
    const fill = () => {
      if (!details.open) return;
      const own = rows.filter((r) => passes(r, r[3]));
      const name = (list, i) => (i < 0 ? "" : list[i].name);
      const columns = ["quantity", "model", "dataset", "protocol", "versus", "estimate", "n", "p", "note", "method"];
      const lines = own.slice(0, 2000).map(([m, d, p, t, what, versus, value, n, pv, note, how]) => [texts[what], name(models, m), name(datasets, d), p < 0 ? "" : arm(p, t), texts[versus], texts[value], n, texts[pv], texts[note], texts[how]]);
      host.replaceChildren(tableOf(columns, lines));
      if (own.length > lines.length) host.append(el("p", {}, `The first ${lines.length} of ${own.length} rows: filter to see others, or read results/.`));
    };
    details.addEventListener("toggle", fill);
    host.refill = fill;
  }

  let limit = 12;
  const OUTCOMES = { ok: "", no_answer: "no answer found", truncated: "cut at the token limit", refused: "refused", filtered: "filtered", failed: "failed", budget: "budget reached" };
  function transcript(one) {
    const [m, d, p] = one.at;
    const made = el("details", { class: "example" }, el("summary", {}, `${one.kind}: ${models[m].name}, ${datasets[d].name}, ${arm(p, one.t)}, ${one.item}${one.epoch ? `, epoch ${one.epoch}` : ""}`));
    made.addEventListener("toggle", () => {
      if (!made.open || made.children.length > 1) return;
      for (const [role, text, turn, outcome, score, answer] of one.spoken) {
        const judged = turn !== null;
        const verdict = !judged ? "" : score === 1 ? "right" : score === 0 ? "wrong" : score === null ? "missing" : `score ${score}`;
        const who = judged ? `turn ${turn}: ${verdict}${OUTCOMES[outcome] ? `, ${OUTCOMES[outcome]}` : ""}; answer: ` : role === "note" ? "note" : `${role}`;
        const head = el("p", { class: "who" }, who);
        if (judged) head.append(answer === null ? "none" : el("bdi", { class: "said" }, answer));
        made.append(el("div", { class: `turn ${judged ? (score === 1 ? "right" : "wrong") : ""}` }, head, el("div", { class: "said", dir: "auto" }, data.texts[text])));
      }
    });
    return made;
  }
  function transcripts() {
    const host = $("#transcripts");
    if (!host) return;
    const kind = valueOf("kind"), own = data.examples.filter((e) => passes(e.at, e.t) && (!kind || e.kind === kind));
    host.replaceChildren(...own.slice(0, limit).map(transcript));
    $('[data-count="examples"]').textContent = `${Math.min(limit, own.length)} of ${own.length}`;
    $("#more").hidden = own.length <= limit;
  }
  $("#more")?.addEventListener("click", () => { limit += 24; transcripts(); });

  function options(pick, list, first) {
    pick.replaceChildren(...(first === null ? [] : [el("option", { value: "" }, first)]), ...list.map(([value, text]) => el("option", { value }, text)));
  }
  function datasetsOf(places) { return known(places).sort((a, b) => a - b).map((d) => [d, datasets[d].name]); }
  const cellDatasets = datasetsOf(cells.map((c) => c.at[1]));
  const pooled = datasets.findIndex((d) => d.name === "all datasets");
  options($("#f-model"), bySize.map((m) => [m, label(m)]), "all");
  options($("#f-dataset"), cellDatasets, "all");
  options($("#f-protocol"), known(cells.map((c) => c.at[2])).sort((a, b) => a - b).map((p) => [p, protocols[p].name]), "all");
  options($("#f-temperature"), data.temperatures.map((t) => [t, String(t)]), "all");
  $("#f-temperature").closest("label").hidden = !several;
  options(control("turns"), cellDatasets, null);
  options(control("scaling"), cellDatasets.length > 1 ? [[pooled, "all datasets"], ...cellDatasets] : cellDatasets, null);
  options(control("worth"), datasetsOf(data.worth.map(([c]) => cells[c].at[1])), null);
  options(control("frontier"), datasetsOf(data.frontier.map((c) => c.at[1])).sort((a, b) => (b[0] === pooled) - (a[0] === pooled)), null);

  function everything() {
    for (const name of Object.keys(charts)) render(name);
    for (const row of $$("[data-at]")) {
      const [m, d, p] = row.dataset.at.split(" ").map(Number);
      row.hidden = !passes([m, d, p], null);
    }
    for (const host of $$("[data-findings]")) host.refill();
    transcripts();
  }
  for (const key of ["model", "dataset", "protocol", "temperature"]) $(`#f-${key}`).addEventListener("change", (event) => {
    const value = event.target.value;
    state[key] = value === "" ? (key === "temperature" ? null : -1) : Number(value);
    if (key === "dataset" && value !== "") for (const name of ["turns", "scaling", "frontier", "worth"]) {
      const pick = control(name);
      if (pick && [...pick.options].some((o) => o.value === value)) pick.value = value;
    }
    limit = 12;
    everything();
  });
  $("#f-reset").addEventListener("click", () => {
    Object.assign(state, { model: -1, dataset: -1, protocol: -1, temperature: null });
    for (const pick of $$(".filters select")) pick.value = "";
    everything();
  });
  for (const [name, chart] of [["turns", "turns"], ["scaling", "scaling"], ["x", "scaling"], ["y", "scaling"], ["forms", "scaling"], ["frontier", "frontier"], ["worth", "worth"]]) control(name)?.addEventListener("change", () => render(chart));
  control("kind")?.addEventListener("change", () => { limit = 12; transcripts(); });

  // --- light, dark, paper

  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = dark.matches ? "dark" : "light";
  const dress = (name) => { root.dataset.theme = name; };
  dress(theme);
  dark.addEventListener("change", (event) => dress((theme = event.matches ? "dark" : "light")));
  $("#theme").addEventListener("click", () => dress((theme = theme === "dark" ? "light" : "dark")));
  const redraw = () => Object.keys(charts).forEach(render);
  addEventListener("beforeprint", () => { dress("light"); redraw(); });
  addEventListener("afterprint", () => { dress(theme); redraw(); });
  matchMedia("print").addEventListener("change", (event) => { dress(event.matches ? "light" : theme); redraw(); });
  let wide = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === wide) return;
    wide = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 120);
  });
  everything();
})();
