// Pictures as large as they are shown: docs/script.md. It chooses among what the page offers, no URL is made here.
const FOUND = "img[data-imagefactory], [data-background-srcset]";
const given = new WeakMap(); // element -> the device pixels it was given, never fewer later

const find = (root) => root.querySelectorAll(FOUND);

/** How many device pixels across the picture of *element* is shown; 0 while it is hidden. */
function shown(element, density) {
  const [width, height] = [element.clientWidth, element.clientHeight];
  let ratio = element.dataset.backgroundRatio;
  if (element.matches("img") && getComputedStyle(element).objectFit === "cover") {
    ratio = element.getAttribute("width") / element.getAttribute("height");
  }
  const across = Math.max(width, height * ratio || 0); // with what "cover" cuts off
  return across * (navigator.connection?.saveData ? 1 : density);
}

function fit(element, density = devicePixelRatio) {
  const pixels = shown(element, density);
  if (!pixels) return;
  if (element.matches("img")) fitImage(element, pixels);
  if (element.dataset.backgroundSrcset) fitBackground(element, pixels);
}

const refit = ({ target }) => fit(target);

/** The smallest candidate that has *pixels* across, else the largest: {url, width}. */
function best(srcset, pixels) {
  const all = [...srcset.matchAll(/([^\s,]\S*)\s+(\d+)w/g)];
  const candidates = all.map(([, url, width]) => ({ url, width: +width })).sort((a, b) => a.width - b.width);
  return candidates.find(({ width }) => width >= pixels) ?? candidates.at(-1);
}

/** By `sizes` alone: which source and which candidate, and when, stays the browser's choice. */
function fitImage(image, pixels) {
  const sources = image.parentElement?.matches("picture") ? image.parentElement.querySelectorAll("source") : [];
  const all = [...sources, image];
  const before = given.get(image);
  // naturalWidth of what is loaded already is the width it was chosen for.
  pixels = Math.max(pixels, before ?? image.naturalWidth * devicePixelRatio);
  const isSame = ({ srcset }) => best(srcset, pixels)?.url === best(srcset, before)?.url;
  const isUnderWay = ({ srcset }) => image.currentSrc.endsWith(best(srcset, pixels)?.url);
  if (!image.complete && (before ? all.every(isSame) : all.some(isUnderWay))) {
    // Other sizes would make Firefox give it up, and ask for the same once more.
    image.addEventListener("load", refit, { once: true });
    return;
  }
  given.set(image, pixels);
  const sizes = Math.ceil(pixels / devicePixelRatio) + "px";
  for (const each of all) {
    if (each.sizes !== sizes) each.sizes = sizes;
  }
}

async function fitBackground(element, pixels) {
  const found = best(element.dataset.backgroundSrcset, pixels);
  if (!found || found.width <= given.get(element)) return;
  given.set(element, found.width);
  const image = new Image();
  image.src = found.url;
  const isGood = await image.decode().then(() => true, () => false);
  if (given.get(element) !== found.width) return; // a larger one is on its way
  if (isGood) element.style.backgroundImage = `url(${JSON.stringify(image.src)})`;
  else given.delete(element);
}

const sized = new ResizeObserver((entries) => entries.forEach(refit));

const margin = { rootMargin: "800px", scrollMargin: "800px" };
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    sized.observe(target);
  }
}, margin);

/** Images at once, as `loading="lazy"` keeps them back; backgrounds when they come near. */
function watch(element) {
  sized.unobserve(element);
  (element.matches("img") ? sized : near).observe(element);
}

function watchDensity() {
  matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => {
    watchDensity();
    for (const element of find(document)) if (given.has(element)) fit(element);
  }, { once: true });
}

find(document).forEach(watch);
watchDensity();

new MutationObserver((changes) => {
  for (const { type, target, addedNodes } of changes) {
    if (type === "attributes") given.delete(target);
    for (const node of type === "attributes" ? [target] : addedNodes) {
      if (node.matches?.(FOUND)) watch(node);
      if (type === "childList" && node.querySelectorAll) find(node).forEach(watch);
    }
  }
}).observe(document, {
  subtree: true, childList: true, attributeFilter: ["data-imagefactory", "data-background-srcset"],
});

addEventListener("beforeprint", () => {
  for (const element of find(document)) {
    fit(element, Math.max(devicePixelRatio, 2)); // paper is finer than most screens
    element.loading = "eager";
  }
});
