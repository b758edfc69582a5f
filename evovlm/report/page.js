"use strict";
// Draws the figures in the colours of the page, again when the reader switches between dark and light.
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function draw() {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const narrow = window.innerWidth < 560;
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
  for (const [name, figure] of Object.entries(figures)) {
    const layout = {
      ...figure.layout,
      font: { color: colour("--text"), family: "system-ui, sans-serif", size: narrow ? 11 : 13 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      dragmode: false, // dragging scrolls the page
      margin: { l: 8, r: 8, t: 36, b: 44 },
      xaxis: { ...axis, ...figure.layout.xaxis },
      yaxis: { ...axis, ...figure.layout.yaxis },
    };
    const options = { responsive: true, displayModeBar: false };
    Plotly.react("plot-" + name, figure.data, layout, options);
  }
}

draw();
dark.addEventListener("change", draw);
