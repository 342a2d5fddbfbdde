// What is shown: one plain object of settings. It can be written into the address and read back; nothing else is kept.
const PACES = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1], PACE_WORDS = ["eps/16", "eps/8", "eps/4", "eps/2", "eps"];
const NAMES = ["A", "B", "C"], SHAPES = ["●", "▲", "■"];
const DEFAULTS = {data: "three", strategy: "unsecured", seed: 1, trained: 0.15, x: [0.25, 0.5], label: 1, norm: "linf",
  eps: 0.18, pace: 2, steps: 10, start: 8, step: 0, zoom: 0, lesson: 1};

const number = (low, high, whole) => text => {
  const v = Number(text);
  return text.trim() === "" || !(v >= low && v <= high) || (whole && v !== Math.round(v)) ? undefined : v;
};
const oneOf = words => text => (words.includes(text) ? text : undefined);

// name in the address -> [setting, how it is read, how it is written, what it may be]
const ADDRESS = {
  points: ["data", oneOf(["moons", "rings", "three"]), String, "moons, rings or three"],
  model: ["strategy", oneOf(["unsecured", "standard", "dynamic"]), String, "unsecured, standard or dynamic"],
  seed: ["seed", number(1, 999, true), String, "a whole number from 1 to 999"],
  traineps: ["trained", number(0.02, 0.3), String, "between 0.02 and 0.3"],
  x: ["x", text => {
    const pair = text.split(",").map(number(0, 1));
    return pair.length === 2 && pair.every(v => v !== undefined) ? pair : undefined;
  }, v => v.map(u => u.toFixed(3)).join(","), "two numbers between 0 and 1, as in 0.4,0.7"],
  class: ["label", text => { const i = NAMES.indexOf(text); return i < 0 ? undefined : i; }, v => NAMES[v], "A, B or C"],
  norm: ["norm", oneOf(["linf", "l2"]), String, "linf or l2"],
  eps: ["eps", number(0.02, 0.3), String, "between 0.02 and 0.3"],
  alpha: ["pace", text => { const i = PACE_WORDS.indexOf(text); return i < 0 ? undefined : i; }, v => PACE_WORDS[v], PACE_WORDS.join(", ")],
  steps: ["steps", number(1, 20, true), String, "a whole number from 1 to 20"],
  start: ["start", text => (text === "x" ? 0 : number(1, 999, true)(text)), v => (v ? String(v) : "x"), "x, or a whole number from 1 to 999"],
  step: ["step", number(0, 20, true), String, "a whole number from 0 to 20"],
  zoom: ["zoom", number(0, 1, true), String, "0 or 1"],
  stop: ["lesson", number(0, 99, true), String, "the number of a stop of the tour, or 0"],
};

// Settings of an address (its query string), over those of the stop it names; and a sentence for each part that cannot be.
function readAddress(query, begin) {
  const asked = new URLSearchParams(query), problems = [], found = {};
  for (const [name, [setting, read, , words]] of Object.entries(ADDRESS)) {
    if (!asked.has(name)) continue;
    const value = read(asked.get(name));
    if (value === undefined) problems.push(`The link asks for ${name} = "${asked.get(name).slice(0, 30)}"; it must be ${words}.`);
    else found[setting] = value;
  }
  if (found.lesson > STOPS.length) {
    problems.push(`There is no stop ${found.lesson} of the tour; the last one is ${STOPS.length}.`);
    delete found.lesson;
  }
  const now = {...begin(found.lesson ?? DEFAULTS.lesson), ...found};
  if (now.label >= CLASSES[now.data]) {
    problems.push(`There is no class ${NAMES[now.label]} among the points "${now.data}".`);
    now.label = 0;
  }
  if (now.step > now.steps) {
    if (found.step !== undefined) problems.push(`There is no step ${now.step}; the last one is ${now.steps}.`);
    now.step = now.steps;
  }
  return {now, problems};
}

// The query string that leads back here: only what differs from the stop's own beginning, and always in the same order.
function writeAddress(query, now, begin) {
  const asked = new URLSearchParams(query), usual = begin(now.lesson);
  asked.delete("run");                                           // left over from another screen
  for (const [name, [setting, , write]] of Object.entries(ADDRESS)) {
    const value = write(now[setting]);
    asked.delete(name);
    if (value !== write(setting === "lesson" ? DEFAULTS.lesson : usual[setting])) asked.set(name, value);
  }
  return asked.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
}

const ball = now => ({x: now.x, eps: now.eps, norm: now.norm});
const alpha = now => PACES[now.pace] * now.eps;

function startOf(now, seed = now.start) {
  if (!seed) return [...now.x];
  const draw = stream(seed), a = draw(), b = draw();
  return startPoint(ball(now), [a, b]);
}

const pathOf = (net, now, seed) => climb(net, ball(now), now.label, startOf(now, seed), alpha(now), now.steps);

// ".13", "1.4", "12": short numbers, and never "-0".
function short(v) {
  if (v === null || !isFinite(v)) return "–";
  const size = Math.abs(v);
  if (size < 5e-4) return "0";
  return v.toFixed(size < 0.1 ? 3 : size < 10 ? 2 : 1).replace(/^(-?)0\./, "$1.");
}

const percent = v => (v === null ? "–" : v > 0 && v < 0.005 ? "under 1 %" : `${Math.round(100 * v)} %`);
