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
    makeRoom(layout, spec.data, plot.clientWidth);
    Plotly.newPlot(plot, spec.data, layout, config);
  }
  // on a narrow page a legend takes a line for every entry: room for them, where plotly would let it scroll
  function makeRoom(layout, data, width) {
    const entries = data.filter((trace) => trace.name && trace.showlegend !== false).length;
    if (width >= 600 || !layout.height || entries < 4) return;
    const more = 19 * (entries - 1);
    layout.height += more;
    layout.margin = Object.assign({}, layout.margin, { t: ((layout.margin || {}).t || 36) + more });
    layout.legend = Object.assign({}, layout.legend, { maxheight: more + 40, font: { size: 11 } });
  }
  // paper is narrower than most screens: figures are drawn again at its width
  const paper = 660;
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((fold) => (fold.open = true));
    plots.forEach((plot) => Plotly.relayout(plot, { width: paper }));
  });
  window.addEventListener("afterprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true })));
})();
