"use strict";
// The playground: the form's fields are the parameters of a picture URL, and the hash is the form.
const $ = id => document.getElementById(id);
const settings = JSON.parse($("settings").textContent);
const form = $("controls"), compare = $("compare"), result = $("result"), original = $("original");
const [one, two] = result.querySelectorAll("img");
const isFixed = settings.sizes === "presets";
const DEFAULTS = isFixed ? {} : {scalex: `${isStepped("scalex") ? snapped(640) : Math.min(640, settings.maxSide)}`, encoding: "auto"};
let path = "", source = null, timer = 0, running = new AbortController(), turning = new AbortController();

// --- values and URLs

// The parameters that the form asks for, in its order; what is left at its default is left out.
function parameters() {
  const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  if (values.gravity === "point") delete values.gravity; // fp says it
  if (isFixed && settings.fixed.includes(values.preset)) delete values.encoding;
  return values;
}

function urlOf(values) {
  const query = new URLSearchParams(values).toString().replaceAll("%2C", ",");
  return settings.prefix + path.split("/").map(encodeURIComponent).join("/") + (query && "?" + query);
}

// What stands for the original: large, the same frame or page, and turned as the result is, so that a focal point
// means the same.
function large(values) {
  const turns = ["t", "page", "rotate", "flip", "flop"].filter(name => name in values).map(name => [name, values[name]]);
  return urlOf({...settings.large, ...Object.fromEntries(turns)});
}

function size(bytes) {
  for (const unit of ["B", "kB", "MB"]) {
    if (bytes < 999.5) return `${unit === "B" ? bytes : bytes.toPrecision(3)} ${unit}`;
    bytes /= 1000;
  }
  return `${bytes.toPrecision(3)} GB`;
}

// --- asking the server

// The server's own words where it refuses; a 503 also says when to come again.
async function problem(reply) {
  const told = await reply.json().catch(() => ({}));
  const error = new Error(`${reply.status}: ${told.detail || reply.statusText || "the server gave no reason"}`);
  error.again = reply.status === 503 ? Number(reply.headers.get("Retry-After")) || 1 : 0;
  return error;
}

// As fetch(), but with words for a person where no answer comes; browsers say "Failed to fetch".
const ask = (url, options) => fetch(url, options).catch(error => {
  throw error.name === "AbortError" ? error : new Error("The server does not answer. Try again when it is there.");
});

async function fetched(url, signal) {
  const began = performance.now();
  // "reload": what a browser has kept would tell of the request that it was kept from.
  const reply = await ask(url, {signal, cache: "reload", headers: {Accept: "image/avif,image/webp,*/*;q=0.8"}});
  if (!reply.ok) throw await problem(reply);
  const blob = await reply.blob();
  return {reply, blob, seconds: (performance.now() - began) / 1000, type: reply.headers.get("Content-Type")};
}

// Shows a picture's bytes, and frees those that were shown before.
async function show(image, blob) {
  const before = image.src;
  // Not by decode(), which in Firefox may speak of what the element showed before.
  const shown = new Promise((good, bad) => Object.assign(image, {onload: good, onerror: bad}));
  image.src = URL.createObjectURL(blob);
  image.hidden = false;
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  await shown.catch(() => { throw new Error(`This browser can't show ${blob.type}.`); });
}

function refuse(error) {
  if (error.name === "AbortError") return;
  result.classList.remove("busy");
  $("said").textContent = "";
  $("problem").textContent = error.again ? `${error.message} (trying again in ${error.again} s)` : error.message;
  $("problem").hidden = false;
  $("facts").replaceChildren();
  for (const each of [...result.children]) each.hidden = true;
  if (error.again) later(error.again * 1000);
}

// --- drawing

async function draw() {
  running.abort();
  running = new AbortController();
  const {signal} = running, values = parameters();
  remember();
  result.classList.add("busy");
  describe(urlOf(values), values);
  $("said").textContent = "asking …";
  try {
    const other = compare.value && !compare.disabled ? urlOf({...values, encoding: compare.value}) : "";
    const [left, right] = await Promise.all([
      fetched(urlOf(values), signal),
      other && fetched(other, signal),
    ]);
    if (signal.aborted) return;
    await show(one, left.blob);
    if (right) await show(two, right.blob);
    if (signal.aborted) return;
    $("problem").hidden = true;
    for (const each of result.querySelectorAll(".two, .tag, .split, #split")) each.hidden = !right;
    tag(".left", left);
    if (right) tag(".right", right);
    tell(left, right);
    one.alt = `${path} as it was asked for`;
    result.classList.remove("busy");
    describe(urlOf(values), values);
  } catch (error) {
    if (!signal.aborted) refuse(error);
  }
}

function short(got) {
  return got.type.replace("image/", "");
}

function tag(place, got) {
  result.querySelector(place).textContent = `${short(got)} ${size(got.blob.size)}`;
}

function ratio(part, whole) {
  const percent = 100 * part / whole;
  return `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

function tell(left, right) {
  const timing = (left.reply.headers.get("Server-Timing") || "").split(", ").filter(Boolean)
    .map(each => each.replace(/;dur=(.*)/, " $1 ms")).join(" · ");
  const facts = [
    ["Bytes", `${size(left.blob.size)} ${short(left)}` + (source ? `, ${ratio(left.blob.size, source.bytes)} of the original` : "")],
    ["Pixels", `${one.naturalWidth} × ${one.naturalHeight}`],
    ["X-Cache", left.reply.headers.get("X-Cache") || "none"],
    ["Server-Timing", timing || "nothing was rendered"],
  ];
  if (right) {
    const change = 100 * (right.blob.size / left.blob.size - 1);
    facts.splice(1, 0, ["Compared", `${size(right.blob.size)} ${short(right)}, ${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(0)} %`]);
  }
  $("facts").replaceChildren(...facts.flatMap(([name, text], number) => {
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    value.className = number ? "" : "strong";
    return [term, value];
  }));
  $("said").textContent = `${(left.seconds * 1000).toFixed(0)} ms`;
}

// The lines to copy.
function describe(url, values) {
  const alt = path.split("/").at(-1).replace(/\.[^.]*$/, "");
  const quoted = text => `"${text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;")}"`;
  const words = Object.entries(values).map(([name, value]) =>
    `, ${name}=${/^[1-9][0-9]*$/.test(value) ? value : JSON.stringify(value)}`);
  const sides = one.naturalWidth && !result.classList.contains("busy")
    ? ` width="${one.naturalWidth}" height="${one.naturalHeight}"` : "";
  $("url").value = location.origin + url;
  $("template").value = `{{ picture(${JSON.stringify(path)}, alt=${JSON.stringify(alt)}${words.join("")}) }}`;
  $("html").value = `<img src=${quoted(url)}${sides} alt=${quoted(alt)} loading="lazy">`;
}

// --- the picture that is chosen

async function choose(chosen) {
  running.abort();
  clearTimeout(timer);
  result.classList.add("busy");
  [path, source] = [chosen, null];
  remember();
  $("bench").hidden = false;
  mark();
  original.querySelector("img").alt = path;
  if ($("open")) $("open").href = urlOf({});
  $("about").textContent = "";
  const about = fetch(`${settings.base}?${new URLSearchParams({about: path})}`)
    .then(async reply => reply.ok ? reply.json() : Promise.reject(await problem(reply)));
  try {
    const told = await about;
    if (path !== chosen) return;
    source = told;
    take();
    const frames = told.frames > 1 ? ` · ${told.frames} frames` : "";
    const length = told.duration ? ` · ${told.duration.toFixed(1)} s` : "";
    $("about").textContent = `${told.format} ${size(told.bytes)} · ${told.width} × ${told.height}${frames}${length}`;
  } catch { /* the picture's own URL will say what is wrong */ }
  if (path === chosen) update();
}

// Shows the fields of what this source can be asked for beside sizes.
function take() {
  for (const field of form.querySelectorAll(".taken [name]")) {
    field.closest(".taken").hidden = field.disabled = !(field.name in source.parameters);
    field.placeholder = source.parameters[field.name] ?? "auto";
    if (field.name === "t") field.max = field.previousElementSibling.max = source.duration || 999999;
  }
}

function mark() {
  for (const each of document.querySelectorAll("#pictures .thumb")) each.ariaCurrent = each.dataset.path === path ? "true" : null;
}

// Puts the sliders, the focal point and the original in step with the fields, then draws.
function update(delay = 0) {
  const turned = ["90", "270"].includes(form.elements.rotate?.value);
  for (const slider of form.querySelectorAll("[data-for]")) {
    const field = $(slider.dataset.for), name = slider.dataset.for;
    if (source && name.startsWith("scale") && !source.scalable && !form.elements.enlarge.checked) {
      const side = (name === "scalex") !== turned ? source.width : source.height;
      const most = Math.min(settings.maxSide, side);
      slider.max = settings.sizes === "ladder" && name === "scalex" ? settings.ladder.length : most;
    } else if (name.startsWith("scale") && settings.sizes !== "ladder") slider.max = Math.min(settings.maxSide, 4000);
    slider.value = isStepped(name) ? settings.ladder.indexOf(Number(field.value)) + 1 : field.value || 0;
    slider.setAttribute("aria-valuetext", field.value || "auto");
  }
  const isPoint = form.elements.gravity?.value === "point";
  if ($("focus")) {
    form.elements.fp.value = isPoint ? point().join() : "";
    const [x, y] = point();
    $("focus").style.setProperty("--x", `${100 * x}%`);
    $("focus").style.setProperty("--y", `${100 * y}%`);
    $("focus").classList.toggle("on", isPoint);
    $("focus").setAttribute("aria-label", `Focal point, ${Math.round(100 * x)} % across, ${Math.round(100 * y)} % down`);
  }
  const values = parameters();
  compare.disabled = form.elements.encoding.disabled = isFixed && settings.fixed.includes(values.preset);
  const shown = original.querySelector("img"), url = large(values);
  if (shown.getAttribute("src") !== url) shown.src = url;
  later(delay);
}

function later(delay) {
  clearTimeout(timer);
  timer = setTimeout(draw, delay);
}

// --- the focal point

function point() {
  return (form.elements.fp.value || "0.5,0.5").split(",").map(Number);
}

function place(x, y) {
  const inside = value => String(Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000);
  form.elements.fp.value = `${inside(x)},${inside(y)}`;
  form.elements.gravity.value = "point";
  // Only a cut has a point to keep. Without both sides nothing is cut, so begin with a square.
  if (form.elements.fit.value !== "outside" && form.elements.fit.value !== "pad") form.elements.fit.value = "cover";
  const {scalex, scaley} = form.elements;
  scalex.value ||= scaley.value || DEFAULTS.scalex;
  scaley.value ||= scalex.value;
  update(200);
}

function placeAt(event) {
  const box = original.getBoundingClientRect();
  place((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}

if ($("focus")) {
  const dot = $("focus");
  // A finger scrolls the page over the picture; it taps, or drags the point itself.
  original.addEventListener("pointerdown", event => {
    if (event.button || (event.pointerType !== "mouse" && event.target !== dot)) return;
    original.setPointerCapture(event.pointerId);
    placeAt(event);
  });
  original.addEventListener("pointermove", event => {
    if (original.hasPointerCapture(event.pointerId)) placeAt(event);
  });
  original.addEventListener("click", event => {
    if (!event.detail) return; // from the keyboard, which has no place
    placeAt(event);
    dot.focus({preventScroll: true}); // for the arrow keys
  });
  dot.addEventListener("keydown", event => {
    const [dx, dy] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] || [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const [x, y] = point(), step = event.shiftKey ? 0.1 : 0.01;
    place(x + dx * step, y + dy * step);
  });
}

// --- the form

// In the ladder the width's slider goes by steps, and its field goes up to the next one.
function isStepped(name) {
  return settings.sizes === "ladder" && name === "scalex";
}

function snapped(width) {
  return settings.ladder.find(step => step >= width) || settings.ladder.at(-1);
}

form.addEventListener("input", event => {
  const name = event.target.dataset.for;
  if (name) {
    const at = Number(event.target.value), value = isStepped(name) ? settings.ladder[at - 1] : at;
    $(name).value = at ? value : "";
  }
  update(200);
});
form.addEventListener("change", event => {
  const field = event.target;
  if (isStepped(field.name) && field.value) {
    field.value = snapped(Number(field.value));
    update();
  }
});
form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("reset", event => {
  event.preventDefault();
  fill(new URLSearchParams(DEFAULTS));
  update();
});
$("split").addEventListener("input", event => result.style.setProperty("--at", `${event.target.value}%`));

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const field = $(button.dataset.copy);
    field.select();
    // Over plain HTTP a page has no clipboard but the old one.
    const isCopied = await (navigator.clipboard?.writeText(field.value) ?? Promise.reject())
      .then(() => true, () => document.execCommand("copy"));
    button.textContent = isCopied ? "Copied" : "Ctrl+C"; // the line is selected
    $("told").textContent = isCopied ? "Copied" : "Not copied, but selected";
    setTimeout(() => { button.textContent = "Copy"; $("told").textContent = ""; }, 1500);
  });
}

// --- the hash, so that what is on the screen can be shared

function remember() {
  const values = {picture: path, ...parameters(), ...(compare.value && {compare: compare.value})};
  history.replaceState(null, "", `#${new URLSearchParams(values)}`);
}

function fill(values) {
  for (const field of form.elements) {
    if (field.type === "checkbox") field.checked = values.get(field.name) === "1";
    else if (field.tagName === "SELECT") field.value = values.get(field.name || field.id) ?? "";
    else if (field.name) field.value = values.get(field.name) ?? "";
    if (field.tagName === "SELECT" && field.selectedIndex < 0) field.selectedIndex = 0;
  }
  if (values.get("fp") && form.elements.gravity) form.elements.gravity.value = "point";
  const more = form.querySelector("details");
  if (more) more.open ||= [...more.querySelectorAll("[name]")].some(each => values.has(each.name));
}

function restore() {
  const values = new URLSearchParams(location.hash.slice(1));
  const first = document.querySelector("#pictures .thumb")?.dataset.path;
  const chosen = values.get("picture") || first;
  fill(values.has("picture") ? values : new URLSearchParams(DEFAULTS));
  if (chosen) choose(chosen);
}

addEventListener("hashchange", restore);

// --- the list of pictures

// The server's page has the list; a script takes it from there instead of loading the page.
async function turn(url) {
  turning.abort();
  turning = new AbortController();
  const {signal} = turning;
  try {
    const reply = await ask(url, {signal});
    if (!reply.ok) throw await problem(reply);
    const text = (await reply.text()).replace(/<style[^]*?<\/style>/, ""); // its nonce is not ours
    const page = new DOMParser().parseFromString(text, "text/html");
    list(...page.querySelectorAll("#pictures > ul, #pictures > nav"));
    history.replaceState(null, "", url + location.hash);
  } catch (error) {
    const said = Object.assign(document.createElement("p"), {className: "none", role: "alert", textContent: error.message});
    if (!signal.aborted) list(said);
  }
}

function list(...parts) {
  while (find.nextSibling) find.nextSibling.remove(); // the field stays, and with it the cursor
  find.after(...parts);
  mark();
}

const find = document.querySelector(".find");
let typing = 0;
find.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => turn(`${settings.base}?${new URLSearchParams(new FormData(find))}`), 200);
});
find.addEventListener("submit", event => event.preventDefault());
$("pictures").addEventListener("click", event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  const thumb = event.target.closest(".thumb"), link = event.target.closest("nav a");
  if (!thumb && !link) return;
  event.preventDefault();
  // A picture is a step for the browser's back button; its sizes are not.
  if (thumb && thumb.dataset.path !== path) {
    history.pushState(null, "");
    for (const field of form.querySelectorAll(".taken [name]")) field.value = ""; // another one's second or page
  }
  if (thumb) choose(thumb.dataset.path);
  else turn(link.getAttribute("href")).then(() => document.querySelector("#pictures .thumb")?.focus());
});

restore();
