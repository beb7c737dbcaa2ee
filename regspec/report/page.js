// Values of curves where the pointer is. Without it all is there: the page needs no script.
const box = document.getElementById("hover");
for (const svg of document.querySelectorAll("svg[data-lines]")) {
  const lines = JSON.parse(svg.dataset.lines).filter((line) => line.points.length);
  const rule = document.createElementNS("http://www.w3.org/2000/svg", "line");
  rule.setAttribute("style", "stroke: var(--muted); stroke-dasharray: 2 2; pointer-events: none");
  rule.setAttribute("visibility", "hidden");
  svg.append(rule);
  const show = (event) => {
    const frame = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / frame.width;
    const x = (event.clientX - frame.left) * scale;
    const near = lines.flatMap((line) => line.points).reduce((a, b) => (Math.abs(b[2] - x) < Math.abs(a[2] - x) ? b : a));
    const rows = lines.flatMap((line) => line.points.filter((point) => point[0] === near[0]).map((point) => `${point[1]}  ${line.name}`));
    for (const [name, value] of [["x1", near[2]], ["x2", near[2]], ["y1", 8], ["y2", svg.viewBox.baseVal.height - 28]]) rule.setAttribute(name, value);
    rule.setAttribute("visibility", "visible");
    box.textContent = "";
    for (const text of [`epoch ${near[0]}`, ...rows]) box.append(Object.assign(document.createElement("div"), { textContent: text }));
    box.hidden = false;
    const left = event.clientX + 16 + box.offsetWidth > innerWidth ? event.clientX - 16 - box.offsetWidth : event.clientX + 16;
    box.style.left = `${Math.max(8, left)}px`;
    box.style.top = `${Math.min(event.clientY + 12, innerHeight - box.offsetHeight - 8)}px`;
  };
  const hide = () => { box.hidden = true; rule.setAttribute("visibility", "hidden"); };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}
