// The 2-D maths, the same as dynat_core/playground.py line by line: tests hold the two together to 1e-9.
// A point is [right, up] with both "pixels" in [0, 1]; a network is one flat array of parameters.
const HIDDEN = 12, LOW = 0, HIGH = 1;
const CLASSES = {moons: 2, rings: 2, three: 3};
const RECIPE = {count: 60, rate: 0.04, decay: {unsecured: 0.006, standard: 0.002, dynamic: 0.002}, steps: 10, pace: 0.25, cMax: 0.25, epochs: {unsecured: 200, standard: 160, dynamic: 160}};

// Mulberry32: uniform numbers in [0, 1) from a whole number.
function stream(seed) {
  let a = seed | 0;
  return () => {
    a = (a + 0x6D2B79F5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function bell(draw) {
  const u = 1 - draw(), v = draw();
  return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
}

// `count` labelled points of each class.
function cloud(name, count, seed) {
  const draw = stream(seed), x = [], y = [];
  for (let label = 0; label < CLASSES[name]; label++) for (let i = 0; i < count; i++) {
    const t = draw(), a = bell(draw), b = bell(draw);
    let right, up;
    if (name === "moons") {
      const turn = Math.PI * t;
      right = 0.34 + 0.23 * (label ? 1 - Math.cos(turn) : Math.cos(turn)) + 0.028 * a;
      up = 0.42 + 0.3 * (label ? 0.5 - Math.sin(turn) : Math.sin(turn)) + 0.028 * b;
    } else if (name === "rings") {
      const radius = label ? 0.36 : 0.1, turn = 2 * Math.PI * t;
      right = 0.5 + radius * Math.cos(turn) + 0.03 * a;
      up = 0.5 + radius * Math.sin(turn) + 0.03 * b;
    } else {
      const turn = Math.PI * (0.5 + 2 * label / 3);
      right = 0.5 + 0.27 * Math.cos(turn) + 0.08 * a;
      up = 0.46 + 0.27 * Math.sin(turn) + 0.08 * b;
    }
    x.push([Math.min(Math.max(right, LOW), HIGH), Math.min(Math.max(up, LOW), HIGH)]);
    y.push(label);
  }
  return {x, y};
}

// A network of one hidden tanh layer. Flat: input weights (HIDDEN x 2), biases, output weights (classes x HIDDEN), biases.
function untrained(classes, seed) {
  const draw = stream(seed), w = [];
  for (let j = 0; j < 2 * HIDDEN; j++) w.push(0.9 * bell(draw));
  for (let j = 0; j < HIDDEN; j++) w.push(0.9 * bell(draw));
  for (let j = 0; j < classes * HIDDEN; j++) w.push(0.5 * bell(draw));
  for (let c = 0; c < classes; c++) w.push(0);
  return {classes, w};
}

const _tanh = new Float64Array(HIDDEN), _back = new Float64Array(HIDDEN);

// Cross-entropy loss (nats) at p for label y, its gradient in p, and the logits; into `sums`, the gradient in the parameters.
function look(net, p, y, sums) {
  const {classes, w} = net, biases = 2 * HIDDEN, outer = 3 * HIDDEN, last = outer + classes * HIDDEN;
  const s = 4 * (p[0] - 0.5), t = 4 * (p[1] - 0.5), logits = new Array(classes);     // centred and scaled inside the model
  for (let j = 0; j < HIDDEN; j++) { _tanh[j] = Math.tanh(w[2 * j] * s + w[2 * j + 1] * t + w[biases + j]); _back[j] = 0; }
  let top = -Infinity;
  for (let c = 0; c < classes; c++) {
    let z = w[last + c];
    for (let j = 0; j < HIDDEN; j++) z += w[outer + c * HIDDEN + j] * _tanh[j];
    logits[c] = z;
    if (z > top) top = z;
  }
  let total = 0;
  for (let c = 0; c < classes; c++) total += Math.exp(logits[c] - top);
  const loss = top - logits[y] + Math.log(total);
  for (let c = 0; c < classes; c++) {
    const q = Math.exp(logits[c] - top) / total - (c === y ? 1 : 0);
    for (let j = 0; j < HIDDEN; j++) {
      _back[j] += q * w[outer + c * HIDDEN + j];
      if (sums) sums[outer + c * HIDDEN + j] += q * _tanh[j];
    }
    if (sums) sums[last + c] += q;
  }
  let right = 0, up = 0;
  for (let j = 0; j < HIDDEN; j++) {
    const h = _back[j] * (1 - _tanh[j] * _tanh[j]);
    right += h * w[2 * j];
    up += h * w[2 * j + 1];
    if (sums) { sums[2 * j] += h * s; sums[2 * j + 1] += h * t; sums[biases + j] += h; }
  }
  return {loss, grad: [4 * right, 4 * up], logits};
}

function winner(logits) {
  let best = 0;
  for (let c = 1; c < logits.length; c++) if (logits[c] > logits[best]) best = c;
  return best;
}

// ---- the set an attack may reach: ball = {x, eps, norm: "linf" | "l2"}, cut with the pixel box ----

const clip = v => Math.min(Math.max(v, LOW), HIGH);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const minus = (a, b) => [a[0] - b[0], a[1] - b[1]];
const norm1 = v => Math.abs(v[0]) + Math.abs(v[1]);
const norm2 = v => Math.sqrt(v[0] * v[0] + v[1] * v[1]);

function faces(ball) {
  return [ball.x.map(v => Math.max(v - ball.eps, LOW)), ball.x.map(v => Math.min(v + ball.eps, HIGH))];
}

function project(ball, z) {
  if (ball.norm === "linf") {
    const [low, high] = faces(ball);
    return [0, 1].map(i => Math.min(Math.max(z[i], low[i]), high[i]));
  }
  const delta = minus(z, ball.x), length = norm2(delta), pull = length > ball.eps ? ball.eps / length : 1;
  return [0, 1].map(i => clip(ball.x[i] + pull * delta[i]));
}

// Where a random start lies, from two uniform numbers.
function startPoint(ball, r) {
  const turn = 2 * Math.PI * r[0], far = Math.sqrt(r[1]);
  const way = ball.norm === "linf" ? [2 * r[0] - 1, 2 * r[1] - 1] : [far * Math.cos(turn), far * Math.sin(turn)];
  return project(ball, [ball.x[0] + ball.eps * way[0], ball.x[1] + ball.eps * way[1]]);
}

function steepest(norm, grad) {
  if (norm === "linf") return [Math.sign(grad[0]), Math.sign(grad[1])];
  const length = norm2(grad);
  return length > 0 ? [grad[0] / length, grad[1] / length] : [0, 0];
}

// The allowed point that lies furthest uphill: where <point, grad> is largest. Where the gradient is 0, stay at z.
function bestPoint(ball, z, grad) {
  if (ball.norm === "linf") {
    const [low, high] = faces(ball);
    return [0, 1].map(i => (grad[i] > 0 ? high[i] : grad[i] < 0 ? low[i] : z[i]));
  }
  const best = ballBest(ball, z, grad), inBox = p => p.every(v => v >= LOW - 1e-12 && v <= HIGH + 1e-12);
  if (inBox(best) || (grad[0] === 0 && grad[1] === 0)) return best;
  const rivals = [];                                             // corners of the box inside the disc, crossings of edge and circle
  for (const a of [LOW, HIGH]) for (const b of [LOW, HIGH]) if (norm2(minus([a, b], ball.x)) <= ball.eps) rivals.push([a, b]);
  for (const i of [0, 1]) for (const edge of [LOW, HIGH]) {
    const away = edge - ball.x[i], rest = ball.eps * ball.eps - away * away;
    if (rest < 0) continue;
    for (const side of [-1, 1]) {
      const p = [edge, edge];
      p[1 - i] = ball.x[1 - i] + side * Math.sqrt(rest);
      if (inBox(p)) rivals.push(p);
    }
  }
  return rivals.reduce((a, b) => (dot(b, grad) > dot(a, grad) ? b : a));
}

// The same without the pixel box.
function ballBest(ball, z, grad) {
  const way = steepest(ball.norm, grad);
  return [0, 1].map(i => (way[i] === 0 && (ball.norm === "linf" || norm2(grad) === 0) ? z[i] : ball.x[i] + ball.eps * way[i]));
}

// ---- FOSC ----

const foscBox = (ball, z, grad) => dot(minus(bestPoint(ball, z, grad), z), grad);
const foscPaper = (ball, z, grad) => ball.eps * (ball.norm === "linf" ? norm1(grad) : norm2(grad)) - dot(minus(z, ball.x), grad);

// What the same slope would promise from the middle of the set, half its width along the gradient: the unit of relative FOSC.
function middle(ball, grad) {
  if (ball.norm === "l2") return (foscBox(ball, ball.x, grad) + foscBox(ball, ball.x, [-grad[0], -grad[1]])) / 2;
  const [low, high] = faces(ball);
  return (Math.abs(grad[0]) * (high[0] - low[0]) + Math.abs(grad[1]) * (high[1] - low[1])) / 2;
}

// Everything there is to know at z; relative FOSC is null where the gradient is 0.
function stand(net, ball, y, z) {
  const {loss, grad, logits} = look(net, z, y), fosc = foscBox(ball, z, grad), paper = foscPaper(ball, z, grad);
  const scale = middle(ball, grad), paperScale = ball.eps * (ball.norm === "linf" ? norm1(grad) : norm2(grad));
  return {z, loss, grad, logits, fosc, paper, middle: scale, best: bestPoint(ball, z, grad), steepness: norm2(grad),
    relative: scale > 0 ? fosc / scale : null, relativePaper: paperScale > 0 ? paper / paperScale : null};
}

// PGD from z0: steps + 1 places, the start first. alpha in pixels.
function climb(net, ball, y, z0, alpha, steps) {
  const path = [stand(net, ball, y, z0)];
  for (let k = 0; k < steps; k++) {
    const {z, grad} = path[k], way = steepest(ball.norm, grad);
    path.push(stand(net, ball, y, project(ball, [z[0] + alpha * way[0], z[1] + alpha * way[1]])));
  }
  return path;
}

// Relative FOSC (paper form) after k steps of `pace` eps under a constant gradient, on average over random starts; null where
// no closed form is known (a disc with random starts).
function expectation(k, pace, random, norm) {
  const left = random ? 2 - k * pace : 1 - k * pace;
  if (random && norm === "l2") return null;
  return left <= 0 ? 0 : random ? left * left / 4 : left;
}

// Relative FOSC (paper form) step by step, averaged over `count` random starts.
function meanRelative(net, ball, y, alpha, steps, count, seed) {
  const draw = stream(seed), mean = new Array(steps + 1).fill(0);
  for (let n = 0; n < count; n++) {
    const a = draw(), b = draw();
    let z = startPoint(ball, [a, b]);
    for (let k = 0; k <= steps; k++) {
      const {grad} = look(net, z, y), scale = ball.eps * (ball.norm === "linf" ? norm1(grad) : norm2(grad));
      if (!(scale > 0)) return null;
      mean[k] += foscPaper(ball, z, grad) / scale / count;
      const way = steepest(ball.norm, grad);
      z = project(ball, [z[0] + alpha * way[0], z[1] + alpha * way[1]]);
    }
  }
  return mean;
}

// ---- training ----

// asked: {data, strategy: unsecured | standard | dynamic, seed, eps}. Full-batch Adam, one update an epoch.
function prepare(asked) {
  const net = untrained(CLASSES[asked.data], asked.seed), n = net.w.length;
  return {...asked, net, points: cloud(asked.data, RECIPE.count, 1000 + asked.seed), epoch: 0, epochs: RECIPE.epochs[asked.strategy],
    m: new Float64Array(n), v: new Float64Array(n), gradients: 0};
}

// c_t falls in a straight line to 0 at four fifths of the epochs; equality stops.
function threshold(run) {
  const control = 0.8 * run.epochs;
  return Math.max(RECIPE.cMax - run.epoch * RECIPE.cMax / control, 0);
}

// The point that one training example is moved to; counts the gradients it took.
function hardened(run, x, y, r) {
  if (run.strategy === "unsecured") return x;
  const ball = {x, eps: run.eps, norm: "linf"}, c = run.strategy === "dynamic" ? threshold(run) : -Infinity;
  let z = startPoint(ball, r);
  for (let k = 0; k < RECIPE.steps; k++) {
    const {grad} = look(run.net, z, y);
    run.gradients++;
    if (k > 0 && foscBox(ball, z, grad) <= c) break;             // the first step is always taken
    const way = steepest("linf", grad);
    z = project(ball, [z[0] + RECIPE.pace * run.eps * way[0], z[1] + RECIPE.pace * run.eps * way[1]]);
  }
  return z;
}

// One epoch: attack every point, then one step of Adam on the mean loss with weight decay.
function trainEpoch(run) {
  const {net, points, m, v} = run, n = points.x.length, sums = new Float64Array(net.w.length);
  const draw = stream(Math.imul(run.seed, 1000003) + run.epoch * 7919 + 17);
  for (let i = 0; i < n; i++) {
    const a = draw(), b = draw();
    look(net, hardened(run, points.x[i], points.y[i], [a, b]), points.y[i], sums);
  }
  run.epoch++;
  const first = 1 - 0.9 ** run.epoch, second = 1 - 0.999 ** run.epoch;
  for (let i = 0; i < sums.length; i++) {
    const g = sums[i] / n + RECIPE.decay[run.strategy] * net.w[i];
    m[i] = 0.9 * m[i] + 0.1 * g;
    v[i] = 0.999 * v[i] + 0.001 * g * g;
    net.w[i] -= RECIPE.rate * (m[i] / first) / (Math.sqrt(v[i] / second) + 1e-8);
  }
}

// On fresh points: how many are right as they are, and how many after PGD-20 (L-inf, eps/4, one random start).
function score(run) {
  const fresh = cloud(run.data, 100, 500 + run.seed), draw = stream(77);
  let clean = 0, robust = 0;
  fresh.x.forEach((x, i) => {
    const y = fresh.y[i], ball = {x, eps: run.eps, norm: "linf"}, a = draw(), b = draw();
    let z = startPoint(ball, [a, b]);
    if (winner(look(run.net, x, y).logits) !== y) return;        // already wrong: an attack may leave it as it is
    clean++;
    for (let k = 0; k < 20; k++) {
      const way = steepest("linf", look(run.net, z, y).grad);
      z = project(ball, [z[0] + run.eps / 4 * way[0], z[1] + run.eps / 4 * way[1]]);
    }
    if (winner(look(run.net, z, y).logits) === y) robust++;
  });
  return {n: fresh.x.length, clean, robust};
}

// Wilson's 95 % interval of `hits` of `n`, as shares.
function wilson(hits, n) {
  const z = 1.959963984540054, p = hits / n, centre = p + z * z / (2 * n), spread = z * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return [(centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)];
}
