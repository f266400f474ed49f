// Draws each chart when it comes near to what is seen, and all before the page is printed.
const specs = JSON.parse(document.getElementById("specs").textContent);
const draw = (element) => {
  if (element.dataset.drawn) return;
  element.dataset.drawn = "yes";
  vegaEmbed(element, specs[element.dataset.spec], {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true,
    config: { background: null, font: "system-ui, sans-serif", view: { stroke: null } } });
};
const charts = document.querySelectorAll("[data-spec]");
const seen = new IntersectionObserver((entries) => entries.forEach((e) => { if (e.isIntersecting) draw(e.target); }),
  { rootMargin: "600px" });
charts.forEach((element) => seen.observe(element));
window.addEventListener("beforeprint", () => charts.forEach(draw));
window.matchMedia("print").addEventListener("change", () => charts.forEach(draw));
