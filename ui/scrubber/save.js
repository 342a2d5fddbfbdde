// A picture at the cursor, to be kept: SVG, PNG, or a page of its own that opens anywhere without a network.
const plain = text => new XMLSerializer().serializeToString(document.createTextNode(text));

function saveButton(S, box) {
  const icon = {width: 16, height: 16, path: "M7 1h2v7h3l-4 4-4-4h3zM2 13h12v2H2z"};
  return {name: "save", title: "Save this picture (SVG)", icon, click: () => save(S, box, "svg")};
}

const keepable = S => [...S.boxes.values()].filter(box => box.view && (box.kind === "fig" || box.kind === "picture"));

// The dialog of the bar's button: which picture, in which form.
function askToSave(S) {
  const dialog = S.$(".dy-save"), which = S.$(".dy-which");
  if (dialog.open) return dialog.close();
  if (!S.root.isConnected) return;
  const boxes = S.built === S.scene ? keepable(S) : [], before = which.value;
  which.textContent = "";
  for (const box of boxes) element("option", "", box.view.title, which).value = box.slot;
  if (boxes.some(box => box.slot === before)) which.value = before;
  for (const button of S.$$(".dy-formats button")) {
    button.disabled = !boxes.length || S.i < 0;
    button.onclick = () => save(S, S.boxes.get(which.value), button.dataset.format);
  }
  S.$(".dy-saved").textContent = "";
  dialog.showModal();
}

async function save(S, box, format) {
  const found = await drawnSvg(S, box), name = `${box.view.id}-${S.scene.unit}-${S.i}.${format}`;
  const made = {svg: () => new Blob([found.text], {type: "image/svg+xml"}), png: () => rasterised(found), html: () => pageOf(S, box, found)};
  const link = Object.assign(document.createElement("a"), {download: name, href: URL.createObjectURL(await made[format]())});
  link.click();
  S.$(".dy-saved").textContent = `Saved as ${name}`;
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Plotly's own picture under our moving layer, or the pixels, with title, notes and a ground, so that it can stand anywhere.
async function drawnSvg(S, box) {
  const css = getComputedStyle(S.root), figure = box.kind === "fig";
  const width = figure ? box.gd.clientWidth : 380, height = figure ? box.gd.clientHeight : Math.round(width * box.canvas.height / box.canvas.width);
  const {notes, head} = notesOf(S, box, width);
  const style = `<style>text{font-family:sans-serif}.title,.note{font-size:12px;fill:var(--dy-ink)}.title,.dy-mark-text{font-weight:600}.dy-mark-text{font-size:11px}.dy-brush{fill:#888;fill-opacity:.2}</style>`;
  const title = `<text x="10" y="19" class="title">${plain(`${box.view.title} (${S.scene.unit} ${S.i})`)}</text>`;
  const inside = figure ? await ofPlotly(S, box, width, height, head)
    : `<image y="${head}" width="${width}" height="${height}" style="image-rendering:pixelated" href="${box.canvas.toDataURL("image/png")}"/>`;
  const ours = `${style}<rect width="100%" height="100%" fill="${S.ground}"/>${title}${notes}${inside}`;
  const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height + head}">${ours}</svg>`
    .replace(/var\((--dy-[\w-]+)\)/g, (_, name) => css.getPropertyValue(name).trim());
  return {text, width, height: height + head};
}

// The notes under the title, side by side as far as they fit, and the room that title and notes take.
function notesOf(S, box, width) {
  let x = 10, y = 38, notes = "";
  for (const {line, text, note} of box.noteTexts.filter(n => !n.line.hidden)) {
    const sample = line.querySelector("svg")?.innerHTML ?? "", words = (sample ? `${S.scene.series[note.series].name}: ` : "") + text.textContent;
    const wide = (sample ? 32 : 0) + 6.6 * words.length;
    if (x > 10 && x + wide > width) { x = 10; y += 16; }
    notes += `<g transform="translate(${x},${y - 9})">${sample}</g><text x="${x + (sample ? 32 : 0)}" y="${y}" class="note">${plain(words)}</text>`;
    x += wide + 14;
  }
  return {notes, head: y + 6};
}

async function ofPlotly(S, box, width, height, head) {
  const image = await S.Plotly.toImage(box.gd, {format: "svg", width, height});
  const base = decodeURIComponent(image.replace(/^data:image\/svg\+xml,/, "")).replace("<svg", `<svg y="${head}"`);
  return `${base}<g transform="translate(0,${head})">${box.layer.innerHTML}</g>`;
}

// Three pixels for one, for slides and print.
async function rasterised({text, width, height}, times = 3) {
  const image = new Image(), address = URL.createObjectURL(new Blob([text], {type: "image/svg+xml"}));
  image.src = address;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), {width: times * width, height: times * height}), context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(address);
  return new Promise(done => canvas.toBlob(done, "image/png"));
}

function pageOf(S, box, {text}) {
  const ink = getComputedStyle(S.root).getPropertyValue("--dy-ink").trim(), said = plain(S.$(".dy-sentence").textContent.trim());
  const style = `body{margin:24px;background:${S.ground};color:${ink};font:15px/1.5 sans-serif}svg{max-width:100%}`;
  const head = `<meta charset="utf-8"><title>${plain(box.view.title)}</title><style>${style}</style>`;
  const body = `<h1>${plain(box.view.title)}</h1><p>${said}</p>${text}`;
  return new Blob([`<!DOCTYPE html>\n<html lang="en"><head>${head}</head><body>${body}</body></html>\n`], {type: "text/html"});
}
