// The one cursor: bar, keys, play, and what is reported to Python (on release, never while it moves).
const NATIVE = "input:not(.dy-range), textarea, select, [contenteditable=true], [role=combobox], [role=listbox], [role=grid], [role=menu], [role=slider], [role=tablist], iframe";
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function wire(S) {
  let frameAsked = 0, later = 0, timer = 0;
  const range = S.$(".dy-bar .dy-range"), number = S.$(".dy-number"), follow = S.$(".dy-follow input");

  S.report = wait => {
    clearTimeout(later);
    later = setTimeout(() => {
      for (const [name, value] of Object.entries(S.chosen)) if (S.asked[name] !== value) (S.told[name] ??= new Set()).add(value);
      S.reported = true;
      S.set("report", {i: S.i, follow: !!S.follow, run: S.run, chosen: {...S.chosen}, hidden: [...S.hidden], selection: selected(S)});
    }, wait);
  };
  S.go = (i, wait) => {
    const end = S.scene.n - 1;
    S.i = Math.max(Math.min(0, end), Math.min(end, Math.round(i) || 0));
    if (S.follow && S.i < end) follow.checked = S.follow = false;
    frameAsked ||= requestAnimationFrame(() => { frameAsked = 0; draw(S); });     // at most one drawing per frame
    if (wait !== undefined) S.report(wait);
  };
  S.play = on => {
    clearInterval(timer);
    timer = 0;
    S.$(".dy-play").setAttribute("aria-label", on ? "Pause" : "Play");
    S.$(".dy-play").classList.toggle("dy-on", on);
    if (!on) return S.report(0);
    if (S.i >= S.scene.n - 1) S.go(0);
    timer = setInterval(() => (S.i >= S.scene.n - 1 ? S.play(false) : S.go(S.i + 1)), calm.matches ? Math.max(S.pace, 600) : S.pace);
  };
  S.playing = () => timer !== 0;
  S.switchTo = (name, value) => { S.chosen[name] = value; build(S); draw(S); drawChoices(S); S.report(300); };
  S.toggle = k => {
    if (k >= S.scene.series.length || S.scene.series.length < 2) return;
    if (!S.hidden.delete(k) && S.hidden.size < S.scene.series.length - 1) S.hidden.add(k);
    build(S); draw(S); drawChoices(S); S.report(300);
  };
  S.followTo = on => { S.follow = follow.checked = on; S.go(on ? S.scene.n - 1 : S.i, 0); };
  const born = crypto.randomUUID?.() ?? String(Math.random());
  S.act = action => {                                            // a held key is said once for all that it did
    S.acted ??= {};
    S.acted[action] = (S.acted[action] ?? 0) + 1;
    if (S.saying === action) return;
    S.saying = action;
    setTimeout(() => { if (S.saying === action) S.saying = null; say(action); }, 60);
  };
  // How often in all: of two messages that meet on the way only the later arrives, and makes up for the other.
  const say = action => S.trigger("action", {action, total: S.acted[action], born});
  S.actAgain = () => Object.keys(S.acted).forEach((action, k) => setTimeout(say, 500 * k, action));
  S.stop = () => { clearInterval(timer); clearTimeout(later); clearTimeout(S.rest); cancelAnimationFrame(frameAsked); removeEventListener("keydown", keys, true); };

  range.oninput = () => S.go(+range.value);
  range.onchange = () => S.report(100);
  number.oninput = () => { S.typing = true; };                   // a half-typed number is not overwritten
  const typed = () => {
    if (!S.typing) return;
    S.typing = false;
    if (number.value === "") number.value = S.i; else S.go(+number.value, 0);
  };
  number.onblur = number.onchange = typed;
  number.onkeydown = event => {
    if (event.key === "Escape") { S.typing = false; number.value = S.i; }
    if (event.key === "Escape" || event.key === "Enter") { typed(); number.blur(); event.stopPropagation(); }
  };
  const on = (name, act) => { S.$(name).onclick = act; };
  on(".dy-first", () => S.go(0, 200));
  on(".dy-prev", event => S.go(S.i - (event.shiftKey ? 10 : 1), 300));
  on(".dy-play", () => S.play(!timer));
  on(".dy-next", event => S.go(S.i + (event.shiftKey ? 10 : 1), 300));
  on(".dy-end", () => S.go(S.scene.n - 1, 200));
  on(".dy-latest", () => S.go(S.scene.n - 1, 0));
  on(".dy-help", () => S.help());
  on(".dy-keep", () => askToSave(S));
  on(".dy-open", () => { S.report(0); S.act("open-selection"); });
  on(".dy-clear", () => { S.brush = null; draw(S); S.report(0); });
  follow.onchange = () => S.followTo(follow.checked);
  const dialog = S.$(".dy-keys");
  S.help = () => { if (dialog.open) dialog.close(); else if (S.root.isConnected) dialog.showModal(); };
  const keys = event => pressed(S, event, number);
  addEventListener("keydown", keys, true);                       // before Streamlit's own keys (R reruns, C clears)
}

// Keys work wherever the focus is, except where keys mean something already.
function pressed(S, event, number) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = event.target instanceof Element ? event.target : document.body, dialog = target.closest("dialog, [role=dialog]");
  if (dialog) { if (event.key === "?" && dialog === S.$(".dy-keys")) { S.help(); done(event); } return; }
  const ours = target.closest(".dy-range") && !target.closest(".dy-bar");          // the threshold slider keeps its arrows
  if (target.closest(NATIVE) || ours) return;
  if (S.root !== owner(target)) return;
  if (event.key === " " && target.closest("button, a, summary, [role=button], [role=tab], [role=checkbox], [role=switch]")) return;
  const at = target.closest(".dy-brushable"), box = at && [...S.boxes.values()].find(one => one.body === at);
  if ((box && brushByKey(S, box, event.key)) || act(S, event, number)) done(event);
}

function done(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}

function act(S, event, number) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, own = S.scene.keys.find(k => k.key === key);
  if (own) { S.act(own.action); return true; }
  const far = event.shiftKey ? 10 : 1, step = {ArrowLeft: -far, ArrowRight: far, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9}[key];
  if (step) { S.go(S.i + step, 300); return true; }
  if (key === " ") S.play(!S.playing());
  else if (key === "f" && S.live) S.followTo(!S.follow);
  else if (key === "g") { number.focus(); number.select(); }
  else if (key === "?") S.help();
  else if (key === "p") askToSave(S);
  else if (/^[1-9]$/.test(key) && S.scene.series.length > 1) S.toggle(+key - 1);
  else {
    const found = S.scene.switches.find(s => s.key === key), at = found?.options.findIndex(([v]) => v === S.chosen[found.name]);
    if (!found) return false;
    S.switchTo(found.name, found.options[(at + 1) % found.options.length][0]);
  }
  return true;
}

function drawChoices(S) {
  const legend = S.$(".dy-legend"), many = S.scene.series.length > 1;
  const plan = JSON.stringify([S.scene.series, S.scene.switches.map(s => ({...s, value: ""}))]);
  if (S.choices !== plan) {                                      // built once, so that the focus stays where it is
    S.choices = plan;
    legend.textContent = "";
    S.scene.series.forEach((series, k) => {
      const chip = element(many ? "button" : "span", "dy-chip", "", legend);
      if (many) { chip.type = "button"; chip.onclick = () => S.toggle(k); chip.title = `Show or hide (${k + 1})`; }
      chip.append(swatch(series, k), series.name);
      if (series.until !== null) element("small", "", ` to ${series.until}`, chip);
    });
    const switches = S.$(".dy-switches");
    switches.textContent = "";
    for (const found of S.scene.switches) {
      const group = element("div", "dy-switch", "", switches), segments = (element("span", "", found.title, group), element("div", "dy-segments", "", group));
      segments.setAttribute("role", "group"); segments.setAttribute("aria-label", found.title);
      if (found.key) group.title = `${found.title} (${found.key.toUpperCase()})`;
      for (const [value, words] of found.options) {
        const button = Object.assign(element("button", "", words, segments), {type: "button", onclick: () => S.switchTo(found.name, value)});
        Object.assign(button.dataset, {name: found.name, value});
      }
    }
  }
  if (many) [...legend.children].forEach((chip, k) => chip.setAttribute("aria-pressed", !S.hidden.has(k)));
  for (const button of S.$$(".dy-switches button")) button.setAttribute("aria-pressed", S.chosen[button.dataset.name] === button.dataset.value);
  S.$(".dy-choices").hidden = !S.scene.series.length && !S.scene.switches.length;
}

function listKeys(S) {
  const many = S.scene.series.length;
  const lines = [["← →", `one ${S.scene.unit}`], ["Shift + ← →", `ten ${S.scene.unit}s`], ["Home End", "first, last"], ["Space", "play, pause"],
    ["G", `type ${S.scene.unit === "epoch" ? "an epoch" : "a " + S.scene.unit}`], ...(S.live ? [["F", "follow the latest"]] : []),
    ...(many > 1 ? [[`1 – ${many}`, "show or hide one"]] : []), ...S.scene.switches.filter(s => s.key).map(s => [s.key.toUpperCase(), `next: ${s.title}`]),
    ...S.scene.keys.map(k => [{ArrowUp: "↑", ArrowDown: "↓"}[k.key] ?? k.key.toUpperCase(), k.words]), ["P", "save a picture"], ["?", "this list"]];
  if (S.scene.views.some(v => v.bins)) lines.push(["drag", "on a histogram: choose images"], ["[ ]", "on one reached by Tab: the same, one bar on"], ["{ }", "one bar fewer, one more"]);
  if (S.scene.views.some(v => v.seek)) lines.push(["click", `on a curve: go to that ${S.scene.unit}`]);
  const list = S.$(".dy-keys dl");
  list.textContent = "";
  for (const [key, words] of lines) { element("dt", "", key, list); element("dd", "", words, list); }
}
