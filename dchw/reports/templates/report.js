"use strict";
(function () {
  const plots = Array.from(document.querySelectorAll(".plot"));
  const config = { displaylogo: false, responsive: true, displayModeBar: false };
  const font = { family: "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif", size: 12, color: "#333" };
  for (const plot of plots) {
    const spec = JSON.parse(document.getElementById("spec-" + plot.dataset.key).textContent);
    const layout = Object.assign(
      { autosize: true, font: font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" },
      spec.layout
    );
    Plotly.newPlot(plot, spec.data, layout, config);
  }
  // paper is narrower than most screens: figures are drawn again at its width
  const paper = 660;
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((fold) => (fold.open = true));
    plots.forEach((plot) => Plotly.relayout(plot, { width: paper }));
  });
  window.addEventListener("afterprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true })));
})();
