// Plots on a canvas: time runs to the right edge, which is now.

const still = matchMedia("(prefers-reduced-motion: reduce)");
const FRAME = 33; // ms between two pictures
const STILL_FRAME = 1_000; // the same for those who want no motion

// Every plot of the page is drawn by one loop, and only while it can be seen.
const plots = new Set();
let drawn = 0;

function loop(now) {
  if (now - drawn >= (still.matches ? STILL_FRAME : FRAME)) {
    drawn = now;
    for (const plot of plots) if (plot.isVisible) plot.draw(performance.now());
  }
  requestAnimationFrame(loop);
}
requestAnimationFrame(loop);

// 1, 2 or 5 times a power of ten, at least `value`.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

class Plot {
  isVisible = true;
  #top = 0; // the scale, on its way to where it should be
  #pointer = null;

  constructor(canvas, { span, least, color, format }) {
    Object.assign(this, { canvas, span, least, color, format });
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.#resize()).observe(canvas);
    new IntersectionObserver(([entry]) => (this.isVisible = entry.isIntersecting)).observe(canvas);
    canvas.addEventListener("pointermove", (event) => (this.#pointer = event.offsetX));
    canvas.addEventListener("pointerleave", () => (this.#pointer = null));
    plots.add(this);
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = Math.min(devicePixelRatio || 1, 3);
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.width = clientWidth;
    this.height = clientHeight;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.draw(performance.now());
  }

  x(at, now) {
    return this.width - ((now - at) / this.span) * this.width;
  }

  y(value) {
    return this.floor - (value / this.#top) * (this.floor - 16);
  }

  draw(now) {
    if (!this.width) return;
    const { context, width, height } = this;
    const style = getComputedStyle(this.canvas);
    const ink = (name) => style.getPropertyValue(name).trim();
    const wanted = roundUp(Math.max(this.highest(now) * 1.1, this.least));
    const near = Math.abs(this.#top - wanted) < wanted / 200;
    this.#top = still.matches || near || !this.#top ? wanted : this.#top + (wanted - this.#top) / 6;
    this.floor = height - 18;
    context.clearRect(0, 0, width, height);
    context.font = `11px ${style.fontFamily}`;
    const labels = this.#grid(now, wanted, ink("--line"), ink("--muted"), ink("--card"));
    this.series(now, ink(this.color), ink);
    labels(); // over the data, which would make them hard to read
    if (this.#pointer !== null) this.#reading(now, ink("--ink"), ink("--card"), ink("--line"));
  }

  #grid(now, wanted, line, muted, card) {
    const { context, width, floor } = this;
    context.strokeStyle = line;
    context.fillStyle = muted;
    context.lineWidth = 1;
    context.textBaseline = "alphabetic";
    const labels = [];
    context.beginPath();
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(this.y(wanted * share)) + 0.5;
      if (y < 0) continue;
      context.moveTo(0, y);
      context.lineTo(width, y);
      if (share) labels.push([this.format(wanted * share), y - 4]);
    }
    // Seconds that wander with the data; their words stand still at the foot.
    const step = this.span / 6;
    for (let at = Math.floor(now / step) * step; at > now - this.span; at -= step) {
      const x = Math.round(this.x(at, now)) + 0.5;
      context.moveTo(x, floor);
      context.lineTo(x, floor + 4);
    }
    context.stroke();
    context.fillText(`${this.span / 1000} s ago`, 2, this.height - 3);
    context.textAlign = "right";
    context.fillText("now", width - 2, this.height - 3);
    context.textAlign = "left";
    return () => {
      context.fillStyle = muted;
      context.strokeStyle = card;
      context.lineWidth = 4;
      for (const [text, y] of labels) {
        context.strokeText(text, 2, y);
        context.fillText(text, 2, y);
      }
    };
  }

  #reading(now, ink, card, line) {
    const { context, width, floor } = this;
    const at = now - ((width - this.#pointer) / width) * this.span;
    const value = this.valueAt(at);
    if (value === undefined) return;
    const x = Math.round(this.#pointer) + 0.5;
    context.strokeStyle = ink;
    context.lineWidth = 1;
    context.globalAlpha = 0.5;
    context.beginPath();
    context.moveTo(x, 8);
    context.lineTo(x, floor);
    context.stroke();
    context.globalAlpha = 1;
    const text = this.format(value);
    const wide = context.measureText(text).width + 12;
    const left = Math.min(Math.max(x - wide / 2, 0), width - wide);
    context.fillStyle = card;
    context.strokeStyle = line;
    context.beginPath();
    context.roundRect(left, 0.5, wide, 19, 5);
    context.fill();
    context.stroke();
    context.fillStyle = ink;
    context.fillText(text, left + 6, 14);
  }
}

// A line with its area, from {at, value} in order of time.
export class Area extends Plot {
  points = [];

  add(value) {
    const at = performance.now();
    this.points.push({ at, value });
    while (this.points[0].at < at - this.span * 1.1) this.points.shift();
  }

  highest() {
    return this.points.reduce((top, point) => Math.max(top, point.value), 0);
  }

  valueAt(at) {
    return this.points.find((point) => point.at >= at)?.value;
  }

  series(now, color) {
    const { context, points, floor } = this;
    if (points.length < 2) return;
    const path = new Path2D();
    points.forEach(({ at, value }, i) => {
      const x = this.x(at, now);
      const y = this.y(value);
      if (!i) return path.moveTo(x, y);
      // Flat at both ends of each piece: no overshoot that was not measured.
      const before = points[i - 1];
      const middle = (this.x(before.at, now) + x) / 2;
      path.bezierCurveTo(middle, this.y(before.value), middle, y, x, y);
    });
    const last = points.at(-1);
    const x = this.x(last.at, now);
    const area = new Path2D(path);
    area.lineTo(x, floor);
    area.lineTo(this.x(points[0].at, now), floor);
    const shade = context.createLinearGradient(0, 0, 0, floor);
    shade.addColorStop(0, color);
    shade.addColorStop(1, `${color}00`); // the colours of the page are #rrggbb
    context.globalAlpha = 0.36;
    context.fillStyle = shade;
    context.fill(area);
    context.globalAlpha = 1;
    context.strokeStyle = color;
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.stroke(path);
    context.fillStyle = color;
    context.beginPath();
    context.arc(Math.min(x, this.width - 3), this.y(last.value), 3, 0, 7);
    context.fill();
  }
}

// A dot for each {at, ms}, a mark at the foot for each one whose ms is null.
export class Scatter extends Plot {
  constructor(canvas, options) {
    super(canvas, options);
    this.trips = options.trips;
  }

  // Those in sight; `trips` is in order of time.
  #inSight(now) {
    let low = 0;
    let high = this.trips.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.trips[middle].at < now - this.span) low = middle + 1;
      else high = middle;
    }
    return this.trips.slice(low);
  }

  // Nearly all of them fit; a rare one that took much longer is drawn at the top.
  highest(now) {
    const times = this.#inSight(now)
      .map((trip) => trip.ms ?? 0)
      .sort((a, b) => a - b);
    return times[Math.floor(times.length * 0.985)] ?? 0;
  }

  valueAt(at) {
    return this.trips.find((trip) => trip.at >= at && trip.ms !== null)?.ms;
  }

  series(now, color, ink) {
    const { context, floor, width } = this;
    const trips = this.#inSight(now);
    context.fillStyle = color;
    context.globalAlpha = trips.length > 1500 ? 0.45 : 0.75;
    context.beginPath();
    for (const { at, ms } of trips) {
      if (ms === null) continue;
      const x = this.x(at, now);
      const y = Math.max(this.y(ms), 10);
      context.moveTo(x + 1.6, y);
      context.arc(x, y, 1.6, 0, 7);
    }
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = ink("--loss");
    context.lineWidth = 1.5;
    context.beginPath();
    for (const { at, ms } of trips) {
      if (ms !== null) continue;
      const x = this.x(at, now);
      context.moveTo(x, floor);
      context.lineTo(x, floor - 12);
    }
    context.stroke();
    // The median of each second, as steps.
    const buckets = new Map();
    for (const { at, ms } of trips) {
      if (ms === null) continue;
      const second = Math.floor(at / 1000);
      if (!buckets.has(second)) buckets.set(second, []);
      buckets.get(second).push(ms);
    }
    context.strokeStyle = ink("--ink");
    context.lineWidth = 1.25;
    context.beginPath();
    let isFirst = true;
    for (const [second, times] of buckets) {
      times.sort((a, b) => a - b);
      const y = this.y(times[times.length >> 1]);
      const left = Math.max(this.x(second * 1000, now), 0);
      const right = Math.min(this.x((second + 1) * 1000, now), width);
      if (isFirst) context.moveTo(left, y);
      context.lineTo(left, y);
      context.lineTo(right, y);
      isFirst = false;
    }
    context.stroke();
  }
}
