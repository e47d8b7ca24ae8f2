//! The picture of a chain: a column per hop, an arrow per hand-over. The same chain is the same picture, byte for byte. It
//! holds no script, no link and no font of its own.

use std::fmt::Write as _;

use autonomy_reconciler::{Chain, Stop};
use autonomy_schema::Name;

const BOX: (usize, usize) = (190, 74);
/// From the left edge of a column to that of the next, and from the top of a row to that of the next.
const STEP: (usize, usize) = (330, 104);
const MARGIN: usize = 24;
/// What stands above the columns.
const HEAD: usize = 76;
/// Most letters of a name in a box.
const MAX_LETTERS: usize = 22;

const GREEN: &str = "#1a7f37";
const GREY: &str = "#6e7781";
const INK: &str = "#1f2328";

/// Draws it.
pub(super) fn draw(chain: &Chain) -> String {
    let places = places(chain);
    let columns = places.iter().map(|(column, _)| column + 1).max().unwrap_or(1);
    let rows = places.iter().map(|(_, row)| row + 1).max().unwrap_or(1);
    let width = MARGIN * 2 + STEP.0 * (columns - 1) + BOX.0.max(560_usize.saturating_sub(STEP.0 * (columns - 1)));
    let height = HEAD + STEP.1 * (rows - 1) + BOX.1 + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n"
    );
    let what = chain
        .told
        .as_ref()
        .map_or_else(|| "a set".to_owned(), |told| format!("{} {}, serial {}", told.stream, told.release, told.serial));
    writeln!(svg, "<title>Who gave {} to whom</title>", escaped(&what)).ok();
    writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>").ok();
    text(&mut svg, (MARGIN, 30), "font-size=\"16\" font-weight=\"bold\"", &what);
    text(&mut svg, (MARGIN, 50), &format!("fill=\"{GREY}\""), &chain.manifest.to_string());
    svg.push_str(
        "<defs><marker id=\"arrow\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0 L10 5 L0 10 z\" fill=\"#6e7781\"/></marker></defs>\n",
    );
    let place =
        |node: &Name| chain.stops.iter().zip(&places).find(|(stop, _)| stop.node == *node).map(|(_, place)| *place);
    for hop in &chain.hops {
        if let (Some(from), Some(to)) = (place(&hop.from), place(&hop.to)) {
            arrow(&mut svg, corner(from), corner(to), &clock(&hop.time.to_string()));
        }
    }
    for (stop, place) in chain.stops.iter().zip(&places) {
        node(&mut svg, stop, corner(*place));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Column and row of every stop. What has no hop stands behind the others.
fn places(chain: &Chain) -> Vec<(usize, usize)> {
    let behind = chain.stops.iter().filter_map(|stop| stop.hop).max().map_or(0, |last| last + 1);
    let mut filled = std::collections::BTreeMap::new();
    let place = |stop: &Stop| {
        let column = stop.hop.unwrap_or(behind);
        let row = filled.entry(column).or_insert(0_usize);
        *row += 1;
        (column, *row - 1)
    };
    chain.stops.iter().map(place).collect()
}

fn corner((column, row): (usize, usize)) -> (usize, usize) {
    (MARGIN + STEP.0 * column, HEAD + STEP.1 * row)
}

fn arrow(svg: &mut String, from: (usize, usize), to: (usize, usize), label: &str) {
    let middle = BOX.1 / 2;
    let (start, end) = ((from.0 + BOX.0, from.1 + middle), (to.0, to.1 + middle));
    let bend = (STEP.0 - BOX.0) / 2;
    writeln!(
        svg,
        "<path d=\"M{} {} C{} {} {} {} {} {}\" fill=\"none\" stroke=\"{GREY}\" stroke-width=\"1.5\" \
         marker-end=\"url(#arrow)\"/>",
        start.0,
        start.1,
        start.0 + bend,
        start.1,
        end.0.saturating_sub(bend),
        end.1,
        end.0,
        end.1
    )
    .ok();
    let attributes = format!("fill=\"{GREY}\" font-size=\"10\" text-anchor=\"end\"");
    // Below the end of its arrow, where no other arrow goes; the day stands in the box.
    let time = label.rsplit(' ').next().unwrap_or(label);
    text(svg, (end.0.saturating_sub(4), end.1 + 16), &attributes, time);
}

fn node(svg: &mut String, stop: &Stop, (x, y): (usize, usize)) {
    let (stroke, fill) = match (stop.active().is_some(), stop.receipts.is_empty()) {
        (true, _) => (GREEN, "#dafbe1"),
        (false, false) => (INK, "#f6f8fa"),
        (false, true) => (GREY, "#ffffff"),
    };
    let dashes = if stop.is_verified() { "" } else { " stroke-dasharray=\"5 4\"" };
    writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"{fill}\" stroke=\"{stroke}\" \
         stroke-width=\"1.5\"{dashes}/>",
        BOX.0, BOX.1
    )
    .ok();
    let name: String = stop.node.as_str().chars().take(MAX_LETTERS).collect();
    text(svg, (x + 10, y + 20), "font-size=\"14\" font-weight=\"bold\"", &name);
    let line = |word: &str, witness: Option<&autonomy_reconciler::Witness>| {
        witness.map(|witness| format!("{word} {}", clock(&witness.receipt.time.to_string())))
    };
    let silent = stop.receipts.is_empty().then(|| "no receipt".to_owned());
    let unknown = stop.receipts.iter().any(|witness| witness.key.is_none()).then(|| "key not known".to_owned());
    let stored = line("stored", stop.stored());
    let active = line("active", stop.active());
    let ink = |is_active| if is_active { format!("fill=\"{GREEN}\"") } else { String::new() };
    let lines = [(stored, false), (active, true), (silent, false)];
    for (n, (said, is_active)) in lines.into_iter().filter_map(|(said, is)| Some((said?, is))).enumerate() {
        text(svg, (x + 10, y + 40 + 18 * n), &ink(is_active), &said);
    }
    if let Some(unknown) = unknown {
        text(svg, (x + BOX.0 - 8, y + 20), &format!("fill=\"{GREY}\" font-size=\"10\" text-anchor=\"end\""), &unknown);
    }
}

/// A time as it fits into a box: without the letters that are the same in all of them.
fn clock(time: &str) -> String {
    time.replace('T', " ").trim_end_matches('Z').to_owned()
}

fn text(svg: &mut String, (x, y): (usize, usize), attributes: &str, said: &str) {
    let space = if attributes.is_empty() { "" } else { " " };
    writeln!(svg, "<text x=\"{x}\" y=\"{y}\"{space}{attributes}>{}</text>", escaped(said)).ok();
}

fn escaped(said: &str) -> String {
    said.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
