//! `cnmon watch`: a live view with graphs of what was, processes and links.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table};
use ratatui::Frame;
use vmlu::telemetry::{DeviceSnapshot, FabricSnapshot};

use crate::text::{harmless, whole, UNKNOWN};

/// Samples that a graph keeps.
const HISTORY: usize = 240;
/// Lines of a card.
const CARD: u16 = 6;

/// What one look at the cards gives.
pub(crate) struct Look {
    /// The cards.
    pub(crate) cards: Vec<DeviceSnapshot>,
    /// Their ports, where they can be read.
    pub(crate) fabric: Option<FabricSnapshot>,
}

/// What is shown.
#[derive(Default)]
pub(crate) struct View {
    cards: Vec<DeviceSnapshot>,
    fabric: Option<FabricSnapshot>,
    /// Of each card utilisation and power, percent, the newest last.
    history: Vec<[VecDeque<u64>; 2]>,
    /// First card that is shown.
    first: usize,
    paused: bool,
}

impl View {
    /// Takes a look in.
    pub(crate) fn add(&mut self, look: Look) {
        self.history.resize_with(look.cards.len(), Default::default);
        for (card, history) in look.cards.iter().zip(&mut self.history) {
            let live = card.live.as_ref();
            let now = [
                live.map_or(0.0, |l| l.utilisation_percent),
                live.map_or(0.0, |l| l.power.board_w * 100.0 / l.power.cap_w.max(1.0)),
            ];
            for (line, value) in history.iter_mut().zip(now) {
                if line.len() == HISTORY {
                    line.pop_front();
                }
                line.push_back(value.clamp(0.0, 100.0) as u64);
            }
        }
        self.cards = look.cards;
        self.fabric = look.fabric;
    }

    /// Draws it.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>) {
        let room = frame.area();
        let shown = self.cards.len().saturating_sub(self.first);
        let rows = (shown as u16)
            .saturating_mul(CARD)
            .min(room.height.saturating_sub(6));
        let [head, cards, processes, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(rows),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(room);
        let title = format!(
            "CNMON {}   {} cards",
            crate::own_version(),
            self.cards.len()
        );
        frame.render_widget(Paragraph::new(title), head);
        let list = self.cards.iter().zip(&self.history).skip(self.first);
        for (place, (card, history)) in (0..rows / CARD).zip(list) {
            let area = Rect {
                y: cards.y + place * CARD,
                height: CARD,
                ..cards
            };
            self.draw_card(frame, area, card, history);
        }
        self.draw_processes(frame, processes);
        let keys = match self.paused {
            true => "q quit   space go on   up/down cards   (paused)",
            false => "q quit   space pause   up/down cards",
        };
        frame.render_widget(Paragraph::new(keys), foot);
    }

    fn draw_card(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        card: &DeviceSnapshot,
        history: &[VecDeque<u64>; 2],
    ) {
        let title = format!(" {} {} {} ", card.index, harmless(&card.name), card.pci);
        let block = Block::bordered().title(title);
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let [numbers, used, power] = Layout::horizontal([
            Constraint::Length(34),
            Constraint::Fill(1),
            Constraint::Fill(1),
        ])
        .areas(inner);
        let Some(live) = &card.live else {
            frame.render_widget(Paragraph::new("the card does not answer"), inner);
            return;
        };
        let [memory, text] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(numbers);
        let (taken, all) = (live.memory.used_mib(), live.memory.total_mib());
        let gauge = Gauge::default()
            .ratio((taken as f64 / all.max(1) as f64).clamp(0.0, 1.0))
            .label(format!("{taken}/{all} MiB"))
            .gauge_style(Style::default().fg(Color::Blue));
        frame.render_widget(gauge, memory);
        let heat = &live.temperature;
        let lines = vec![
            Line::from(format!(
                "{}C  {} W/{} W  {} MHz",
                whole(heat.chip_c),
                whole(live.power.board_w),
                whole(live.power.cap_w),
                live.clocks.ipu_khz / 1000
            )),
            Line::from(self.links(card)),
            match live.incidents.first() {
                Some(incident) => Line::styled(incident.text(), Style::default().fg(Color::Red)),
                None => Line::from(""),
            },
        ];
        frame.render_widget(Paragraph::new(lines), text);
        let graph = |name: &str, value: String, area: Rect, line: &VecDeque<u64>, colour: Color| {
            let room = area.width as usize;
            let from = line.len().saturating_sub(room);
            let data: Vec<u64> = line.iter().skip(from).copied().collect();
            let block = Block::default().title(format!("{name} {value}"));
            let graph = Sparkline::default().block(block).data(data).max(100);
            (graph.style(Style::default().fg(colour)), area)
        };
        let percent = |line: &VecDeque<u64>| format!("{}%", line.back().copied().unwrap_or(0));
        for (graph, area) in [
            graph(
                "util",
                percent(&history[0]),
                used,
                &history[0],
                Color::Green,
            ),
            graph(
                "power",
                percent(&history[1]),
                power,
                &history[1],
                Color::Yellow,
            ),
        ] {
            frame.render_widget(graph, area);
        }
    }

    /// The links of a card in a few words.
    fn links(&self, card: &DeviceSnapshot) -> String {
        let chip = self
            .fabric
            .iter()
            .flat_map(|f| &f.chips)
            .find(|chip| chip.index == card.index);
        let Some(ports) = chip.and_then(|chip| chip.ports.as_ref()) else {
            return format!("links {UNKNOWN}");
        };
        let cables = ports.iter().filter(|port| port.remote.is_some()).count();
        let up = ports.iter().filter(|port| port.state.runs()).count();
        let moved: u64 = ports
            .iter()
            .map(|port| port.counters.read_bytes + port.counters.written_bytes)
            .sum();
        format!("links {up}/{cables}  {:.1} GB", moved as f64 / 1e9)
    }

    fn draw_processes(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.cards.iter().flat_map(|card| {
            card.processes.iter().map(|process| {
                Row::new([
                    card.index.to_string(),
                    process.pid.to_string(),
                    format!("{} MiB", process.memory_mib()),
                    process.queues.to_string(),
                    harmless(&process.command_line.join(" ")),
                ])
            })
        });
        let widths = [
            Constraint::Length(5),
            Constraint::Length(9),
            Constraint::Length(12),
            Constraint::Length(7),
            Constraint::Fill(1),
        ];
        let head = Row::new(["Card", "PID", "Memory", "Queues", "Command"]);
        let table = Table::new(rows, widths).header(head);
        frame.render_widget(table.block(Block::bordered().title(" Processes ")), area);
    }

    /// Does what a key says; `false` to end.
    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) -> bool {
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Down => self.first = (self.first + 1).min(self.cards.len().saturating_sub(1)),
            KeyCode::Up => self.first = self.first.saturating_sub(1),
            _ => {}
        }
        true
    }
}

/// Shows looks, one each `interval`, until somebody ends it or there are no more.
pub(crate) fn run(
    interval: Duration,
    mut look: impl FnMut() -> Option<Look>,
) -> std::io::Result<()> {
    let mut view = View::default();
    let Some(first) = look() else { return Ok(()) };
    view.add(first);
    let mut terminal = ratatui::try_init()?;
    let result = (|| {
        let mut next = Instant::now() + interval;
        loop {
            terminal.draw(|frame| view.draw(frame))?;
            if event::poll(next.saturating_duration_since(Instant::now()))? {
                if let Event::Key(key) = event::read()? {
                    let pressed = key.kind == KeyEventKind::Press;
                    if pressed && !view.key(key.code, key.modifiers) {
                        return Ok(());
                    }
                }
                continue;
            }
            next = Instant::now() + interval;
            if !view.paused {
                match look() {
                    Some(look) => view.add(look),
                    None => view.paused = true,
                }
            }
        }
    })();
    ratatui::restore();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;
    use ratatui::Terminal;

    fn drawn(view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content.chunks(100);
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n")
            .collect()
    }

    #[test]
    fn cards_processes_and_their_history_are_drawn() {
        let seen = crate::tests::busy_board();
        let mut view = View::default();
        for _ in 0..HISTORY + 5 {
            view.add(Look {
                cards: seen.cards.clone(),
                fabric: None,
            });
        }
        assert!(view.history.iter().all(|lines| lines[0].len() == HISTORY));
        let text = drawn(&view);
        for part in [
            "2 cards",
            "MLU370-X8",
            "0000:39:00.0",
            "17320/23374 MiB",
            "util 99%",
            "244 W/250 W",
            "101934",
            "train.py",
            "links N/A",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(view.key(KeyCode::Down, KeyModifiers::NONE) && view.first == 1);
        assert!(!drawn(&view).contains("17320/23374"));
        assert!(!view.key(KeyCode::Char('q'), KeyModifiers::NONE));
    }

    #[test]
    fn a_small_terminal_and_a_lost_card_do_no_harm() {
        let mut seen = crate::tests::busy_board();
        seen.cards[0].live = None;
        let mut view = View::default();
        view.add(Look {
            cards: seen.cards,
            fabric: None,
        });
        assert!(drawn(&view).contains("does not answer"));
        for (width, height) in [(1, 1), (10, 4), (200, 2)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| view.draw(frame)).unwrap();
        }
    }
}
