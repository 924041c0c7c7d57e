//! Accuracy against mean depth, as a drawing.

use super::ALL;
use super::table::Row;
use crate::error::Error;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error as StdError;

const SIZE: (u32, u32) = (720, 480);

/// Families of policies: what their names begin with, how the legend calls them, and a color that
/// differs for the color-blind, too (Okabe and Ito).
const FAMILIES: [(&str, &str, RGBColor); 5] = [
    ("fixed", "fixed depth", RGBColor(0, 0, 0)),
    ("q=", "q: exit gate", RGBColor(0, 114, 178)),
    ("confidence=", "confidence", RGBColor(213, 94, 0)),
    ("margin=", "margin", RGBColor(0, 158, 115)),
    ("step=", "step difference", RGBColor(204, 121, 167)),
];

/// The drawing of the rows over all questions: SVG.
pub(super) fn draw(rows: &[&Row]) -> Result<String, Error> {
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.tag == ALL).collect();
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    draw_on(&area, &rows).map_err(|error| Error::Other(anyhow::anyhow!("drawing: {error}")))?;
    drop(area);
    Ok(svg)
}

fn draw_on(area: &DrawingArea<SVGBackend<'_>, Shift>, rows: &[&Row]) -> Result<(), Box<dyn StdError>> {
    area.fill(&WHITE)?;
    let deepest = rows.iter().map(|row| f64::from(row.loops)).fold(1.0, f64::max);
    // Only what is used of the scale, in steps of ten.
    let lowest = rows.iter().map(|row| row.exact).fold(100.0, f64::min);
    let floor = ((lowest - 1.0) / 10.0).floor().max(0.0) * 10.0;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(0.9..deepest + 0.1, floor..101.0)?;
    chart
        .configure_mesh()
        .x_desc("mean depth (loops per token)")
        .y_desc("exact answers (%)")
        .x_labels(deepest as usize * 2 + 1)
        .x_label_formatter(&|x| format!("{x:.1}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .light_line_style(WHITE)
        .axis_desc_style(("sans-serif", 18))
        .label_style(("sans-serif", 16))
        .draw()?;
    for (prefix, label, color) in FAMILIES {
        let of_family = rows.iter().filter(|row| row.exit.starts_with(prefix));
        let mut points: Vec<(f64, f64)> = of_family.map(|row| (row.mean_depth, row.exact)).collect();
        if points.is_empty() {
            continue;
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 17))
        .draw()?;
    area.present()?;
    Ok(())
}
