//! What is there to be scraped: the newest view, and the rows that have ended.

use std::sync::Arc;

use ebpf_process_core::{KeptView, Ledger, View};

use crate::encode::{Encoder, Taken};
use crate::format::Format;
use crate::page::{Account, Page, Receipt};
use crate::renderer::Renderer;
use crate::sheet::Sheet;
use crate::wanted::Wanted;

/// Why samples are lost that nobody has come for.
pub(crate) const NEVER_FETCHED: &str = "never fetched";

/// The newest view, pages of which are made for whoever asks. The sink's thread brings views, the server's makes pages.
#[derive(Debug)]
pub(crate) struct Exposition {
    encoder: Encoder,
    ledger: Arc<Ledger>,
    newest: Option<Newest>,
}

#[derive(Debug)]
struct Newest {
    view: KeptView,
    account: Arc<Account>,
    /// Once somebody has asked.
    sheet: Option<Arc<Sheet>>,
}

impl Exposition {
    pub(crate) fn new(encoder: Encoder, ledger: Arc<Ledger>) -> Self {
        Self { encoder, ledger, newest: None }
    }

    /// Shows this view from now on; clients that have begun with the one before still get that. Returns how many totals
    /// of rows that had ended are lost with the one before.
    pub(crate) fn publish(&mut self, view: View<'_>) -> u64 {
        let Taken { living, superseded, rejected, lost, void, .. } = self.encoder.update(view);
        self.ledger.superseded(superseded);
        self.ledger.rejected(rejected, crate::TWIN);
        self.ledger.dropped(lost + void, NEVER_FETCHED);
        // The account of a view that no client is at any more is used again.
        let free = self.newest.take().and_then(|mut before| {
            Arc::get_mut(&mut before.account)?.begin(living);
            Some(before.account)
        });
        let account = free.unwrap_or_else(|| Arc::new(Account::new(Arc::clone(&self.ledger), living)));
        self.newest = Some(Newest { view: view.keep(), account, sheet: None });
        lost
    }

    /// A page of what there is, to be written by whoever sends it; none as long as there is nothing.
    pub(crate) fn page(&mut self, format: Format, wanted: &Wanted) -> Option<Page> {
        let Self { encoder, newest, .. } = self;
        let Newest { view, account, sheet } = newest.as_mut()?;
        let sheet = sheet.get_or_insert_with(|| Arc::new(encoder.sheet(view.clone())));
        Some(Page::new(Renderer::new(Arc::clone(sheet), format, wanted), Arc::clone(account)))
    }

    /// A client has had all of a page.
    pub(crate) fn fetched(&mut self, Receipt { sections, finals, account }: Receipt) {
        account.fetch(&sections);
        self.ledger.written(self.encoder.fetch_finals(finals, &sections));
    }

    /// Nobody comes any more: whatever waits is lost.
    pub(crate) fn end(&mut self) {
        self.ledger.dropped(self.encoder.clear(), NEVER_FETCHED);
        if let Some(newest) = self.newest.take() {
            newest.account.give_up(NEVER_FETCHED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ebpf_process_core::testkit::{Bench, Cell, no_slots, offer};
    use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit};
    use proptest::prelude::*;

    use super::*;

    /// What is shown, its book, and batches a second apart.
    struct Scene {
        exposition: Exposition,
        ledger: Arc<Ledger>,
        bench: Bench,
    }

    fn kind() -> EntityKind {
        EntityKind::new("thing").keys(["n"]).limit(100_000).names_as_they_are()
    }

    impl Scene {
        fn new() -> Self {
            let ledger = Arc::new(Ledger::default());
            let exposition = Exposition::new(Encoder::new("x"), Arc::clone(&ledger));
            Self { exposition, ledger, bench: Bench::new() }
        }

        fn row(&mut self, n: &str) -> Cell {
            self.bench.cell(&kind(), &[n], Column::counter("calls", Unit::CALLS, "Calls"))
        }

        fn column(&mut self, n: &str, column: Column) -> Cell {
            self.bench.cell(&kind(), &[n], column)
        }

        /// A batch; whatever is entered, the book must balance. Returns how many samples it has.
        fn tick(&mut self, record: impl FnOnce(&mut Recorder)) -> u64 {
            self.tick_through(&Selection::default(), record)
        }

        fn tick_through(&mut self, selection: &Selection, record: impl FnOnce(&mut Recorder)) -> u64 {
            let Self { exposition, bench, ledger } = self;
            let samples = bench.tick(selection, record, |view| {
                offer(ledger, view.len() as u64);
                exposition.publish(*view);
                view.len() as u64
            });
            let tally = self.ledger.tally();
            assert!(tally.balances(), "{tally:?}");
            samples
        }

        fn page(&mut self, query: &str) -> Page {
            self.exposition.page(Format::Text, &Wanted::read(query)).expect("a page")
        }

        /// A page that a client has had.
        fn scrape(&mut self, query: &str) -> String {
            let (text, receipt) = read(self.page(query));
            self.exposition.fetched(receipt);
            text
        }

        /// (written, superseded, dropped, queued)
        fn book(&self) -> (u64, u64, u64, u64) {
            let tally = self.ledger.tally();
            assert!(tally.balances(), "{tally:?}");
            (tally.written, tally.superseded, tally.dropped_total(), tally.queued)
        }
    }

    /// The text of a page, which comes line by line.
    fn read(mut page: Page) -> (String, Receipt) {
        let mut text = String::new();
        let mut goes_on = true;
        while goes_on {
            let mut piece = Vec::new();
            goes_on = page.write(1, &mut piece);
            text += std::str::from_utf8(&piece).expect("text");
        }
        (text, page.into_receipt())
    }

    #[test]
    fn a_view_is_written_once_it_was_fetched_and_superseded_otherwise() {
        let mut scene = Scene::new();
        let (a, b) = (scene.row("a"), scene.row("b"));
        for total in 1..=4 {
            scene.tick(|recorder| [a, b].iter().for_each(|cell| cell.counter(recorder, total)));
            if total == 2 {
                assert!(scene.scrape("").ends_with("x_calls_total{n=\"a\"} 2\nx_calls_total{n=\"b\"} 2\n"));
                scene.scrape("");
            }
        }
        assert_eq!(scene.book(), (2, 4, 0, 2));
        scene.exposition.end();
        assert_eq!(scene.book(), (2, 4, 2, 0));
        assert_eq!(scene.ledger.tally().dropped, [(NEVER_FETCHED, 2)]);
    }

    #[test]
    fn a_page_in_the_hands_of_a_client_is_whole_and_settled_when_that_is_done() {
        let mut scene = Scene::new();
        let a = scene.row("a");
        for gives_up in [true, false] {
            scene.tick(|recorder| a.counter(recorder, 1));
            let page = scene.page("");
            let (before, ..) = scene.book();
            scene.tick(|recorder| a.counter(recorder, 2));
            let (text, receipt) = read(page);
            assert!(text.ends_with(" 1\n") && scene.book().3 == 2, "it reads the old one");
            if gives_up {
                drop(receipt);
                assert_eq!(scene.book(), (before, 1, 0, 1));
            } else {
                scene.exposition.fetched(receipt);
                assert_eq!(scene.book(), (before + 1, 2, 0, 1));
            }
        }
    }

    #[test]
    fn the_texts_of_rows_are_those_of_the_page_before_until_one_comes_or_goes() {
        let mut scene = Scene::new();
        let a = scene.row("a");
        let mut before = None;
        let mut look = |scene: &mut Scene, expected: &[&str]| {
            let page = scene.page("");
            let living = page.sheet().parts.last().map(|part| Arc::clone(&part.living));
            let is_same = living.as_ref().zip(before.as_ref()).is_some_and(|(now, before)| Arc::ptr_eq(now, before));
            before = living;
            let (text, _) = read(page);
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(lines, expected);
            is_same
        };
        scene.tick(|recorder| a.counter(recorder, 1));
        assert!(!look(&mut scene, &["x_calls_total{n=\"a\"} 1"]));
        scene.tick(|recorder| a.counter(recorder, 2));
        assert!(look(&mut scene, &["x_calls_total{n=\"a\"} 2"]));
        let b = scene.row("b");
        let both = |total| move |recorder: &mut Recorder| [a, b].iter().for_each(|cell| cell.counter(recorder, total));
        scene.tick(both(3));
        assert!(!look(&mut scene, &["x_calls_total{n=\"a\"} 3", "x_calls_total{n=\"b\"} 3"]));
        scene.tick(|recorder| {
            both(4)(recorder);
            a.end(recorder);
        });
        assert!(!look(&mut scene, &["x_calls_total{n=\"b\"} 4", "x_calls_total{n=\"a\"} 4"]));
        scene.tick(|recorder| b.counter(recorder, 5));
        assert!(look(&mut scene, &["x_calls_total{n=\"b\"} 5", "x_calls_total{n=\"a\"} 4"]));
    }

    #[test]
    fn another_selection_leaves_nothing_of_the_old_names() {
        let mut scene = Scene::new();
        let (stays, ends) = (scene.row("lives"), scene.row("ends"));
        scene.tick(|recorder| {
            stays.counter(recorder, 1);
            ends.counter(recorder, 5);
            ends.end(recorder);
        });
        let slow = scene.page("");
        let other = Selection {
            prefix: "my.".to_owned(),
            tags: [("rack".to_owned(), "7".to_owned())].into(),
            ..Selection::default()
        };
        let again = scene.row("ends");
        scene.tick_through(&other, |recorder| {
            stays.counter(recorder, 2);
            again.counter(recorder, 1);
            again.end(recorder);
        });
        // Of the row that nobody has fetched the loss is known; a page that is on its way stays what it was.
        assert_eq!(scene.book(), (0, 0, 1, 3), "its account waits for the slow one");
        let (text, receipt) = read(slow);
        assert!(text.ends_with("\nx_calls_total{n=\"lives\"} 1\nx_calls_total{n=\"ends\"} 5\n"), "{text}");
        scene.exposition.fetched(receipt);
        assert_eq!(scene.book(), (1, 0, 1, 2), "of the rows that ended later it had none");
        let page = scene.scrape("");
        let lines: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [r#"x_my_calls_total{n="lives",rack="7"} 2"#, r#"x_my_calls_total{n="ends",rack="7"} 1"#],
            "{page}"
        );
        assert!(!page.contains("x_calls"), "{page}");
        assert_eq!(scene.book(), (3, 0, 1, 0));
        // And back: what was fetched is no loss.
        scene.tick(|recorder| stays.counter(recorder, 3));
        assert_eq!(scene.scrape("").lines().last(), Some("x_calls_total{n=\"lives\"} 3"));
        assert_eq!(scene.book(), (4, 0, 1, 0));
    }

    #[test]
    fn only_families_that_were_fetched_are_written() {
        let mut scene = Scene::new();
        let sizes = Column::histogram("sizes", Unit::BYTES, "Sizes");
        let (calls, ends) = (scene.row("a"), scene.row("ends"));
        let sizes = ["a", "ends"].map(|n| scene.column(n, sizes.clone()));
        let record = |recorder: &mut Recorder| {
            calls.counter(recorder, 3);
            ends.counter(recorder, 3);
            for cell in sizes {
                cell.histogram(recorder, &[0, 1], 3);
            }
            ends.end(recorder);
        };
        assert_eq!(scene.tick(record), 4);
        assert_eq!(scene.scrape("name[]=nothing"), "");
        assert_eq!(scene.book(), (0, 0, 0, 4));
        for name in ["x_calls_total", "x_calls"] {
            let page = scene.scrape(&format!("name[]={name}"));
            assert!(page.ends_with("\nx_calls_total{n=\"a\"} 3\nx_calls_total{n=\"ends\"} 3\n"), "{page}");
            assert_eq!((page.lines().count(), scene.book()), (4, (2, 0, 0, 2)));
        }
        // Those that live are replaced; the other one's histogram is waited for.
        scene.tick(|_| ());
        assert_eq!(scene.book(), (2, 1, 0, 1));
        let page = scene.scrape("name[]=x_sizes_bytes_bucket&name[]=x_level");
        assert!(page.ends_with("x_sizes_bytes_sum{n=\"ends\"} 3\nx_sizes_bytes_count{n=\"ends\"} 1\n"), "{page}");
        assert_eq!(scene.book(), (3, 1, 0, 0));
    }

    #[test]
    fn the_last_totals_of_a_row_stay_for_two_minutes_after_the_first_scrape_that_had_them() {
        let mut scene = Scene::new();
        let (lives, ends) = (scene.row("lives"), scene.row("ends"));
        scene.tick(|recorder| ends.counter(recorder, 1));
        scene.tick(|recorder| {
            ends.counter(recorder, 7);
            ends.end(recorder);
        });
        // Nobody comes for nine minutes.
        for total in 1..540 {
            scene.tick(|recorder| lives.counter(recorder, total));
        }
        assert_eq!(scene.ledger.tally().dropped_total(), 0);
        let last = "x_calls_total{n=\"ends\"} 7\n";
        assert!(scene.scrape("").contains(last));
        for total in 540..659 {
            scene.tick(|recorder| lives.counter(recorder, total));
            assert!(scene.scrape("").contains(last), "{total}");
        }
        scene.tick(|recorder| lives.counter(recorder, 660));
        assert!(!scene.scrape("").contains(last));
        scene.exposition.end();
        assert_eq!((scene.book().2, scene.book().3), (0, 0));
    }

    #[test]
    fn totals_that_nobody_fetches_in_ten_minutes_are_lost_and_counted() {
        let mut scene = Scene::new();
        let lives = scene.row("lives");
        let size = scene.column("ends", Column::histogram("sizes", Unit::BYTES, "Sizes"));
        let level = scene.column("ends", Column::gauge("level", Unit::ONE, "Level"));
        scene.tick(|recorder| {
            let mut slots = no_slots();
            slots[3] = 2;
            size.histogram(recorder, &slots, 20);
            level.gauge(recorder, 3.5);
            size.end(recorder);
        });
        // A histogram is one sample, whatever lines it takes; a level has no end to tell of.
        assert_eq!(scene.book(), (0, 1, 0, 1));
        let (page, _) = read(scene.page(""));
        assert!(page.contains("x_sizes_bytes_count{n=\"ends\"} 2\n") && !page.contains("level"), "{page}");
        for total in 0..599 {
            scene.tick(|recorder| lives.counter(recorder, total));
        }
        assert_eq!(scene.ledger.tally().dropped, []);
        scene.tick(|recorder| lives.counter(recorder, 599));
        assert_eq!(scene.ledger.tally().dropped, [(NEVER_FETCHED, 1)]);
        assert!(!scene.scrape("").contains("sizes"));
    }

    #[test]
    fn rows_that_have_ended_take_bounded_memory_and_what_had_no_room_is_counted() {
        let mut scene = Scene::new();
        let name = "n".repeat(180);
        for round in 0..12 {
            let rows: Vec<_> = (0..6000).map(|n| scene.row(&format!("{name}{round} {n}"))).collect();
            scene.tick(|recorder| {
                for row in rows {
                    row.counter(recorder, 1);
                    row.end(recorder);
                }
            });
        }
        let (written, superseded, dropped, queued) = scene.book();
        assert_eq!((written, superseded, dropped + queued), (0, 0, 72_000), "each is lost or still there");
        assert!(dropped > 20_000 && queued > 20_000, "{dropped}");
        let lines = |text: &str| text.lines().filter(|line| line.starts_with("x_calls_total")).count() as u64;
        assert_eq!(lines(&scene.scrape("")), queued);
        // Those that were fetched have less room, and are no loss.
        scene.tick(|_| ());
        let kept = lines(&scene.scrape(""));
        assert!(kept > 1_000 && kept < queued / 3, "{kept}");
        assert_eq!(scene.book(), (queued, 0, dropped, 0));
    }

    #[test]
    fn a_row_that_comes_again_has_its_name_to_itself() {
        let mut scene = Scene::new();
        let first = scene.row("a");
        scene.tick(|recorder| {
            first.counter(recorder, 7);
            first.end(recorder);
        });
        scene.tick(|_| ());
        let second = scene.row("a");
        assert_ne!(first.row, second.row);
        scene.tick(|recorder| second.counter(recorder, 1));
        let text = scene.scrape("");
        assert!(
            text.ends_with("\nx_calls_total{n=\"a\"} 1\n") && text.matches("x_calls_total{").count() == 1,
            "{text}"
        );
        assert_eq!(scene.ledger.tally().dropped, [(NEVER_FETCHED, 1)]);
        // It ends in its turn, and nobody else has the name.
        scene.tick(|recorder| second.end(recorder));
        assert!(scene.scrape("").ends_with("\nx_calls_total{n=\"a\"} 1\n"));
        assert_eq!(scene.book(), (2, 0, 1, 0));
    }

    /// Rows and columns come, and rows end, while a client reads: it gets the view that it came for.
    #[test]
    fn a_page_that_is_read_slowly_is_of_one_view() {
        let mut scene = Scene::new();
        let rows: Vec<_> = (0..20).map(|n| scene.row(&n.to_string())).collect();
        scene.tick(|recorder| rows.iter().for_each(|row| row.counter(recorder, 1)));
        scene.tick(|recorder| {
            for row in &rows {
                row.counter(recorder, 2);
            }
            rows[3].end(recorder);
        });
        let (whole, _) = read(scene.page(""));
        assert_eq!(whole.lines().filter(|line| line.ends_with(" 2")).count(), 20);
        let (mut slow, mut text) = (scene.page(""), Vec::new());
        for round in 0..22 {
            let goes_on = slow.write(text.len() + 1, &mut text);
            if !goes_on {
                assert!(round > 18, "{round}");
                break;
            }
            let (again, new) =
                (scene.row("3"), scene.column(&round.to_string(), Column::gauge("new", Unit::ONE, "New")));
            let ends = rows.get(round).filter(|_| round != 3);
            scene.tick(|recorder| {
                again.counter(recorder, 3);
                new.gauge(recorder, 4.0);
                if let Some(row) = ends {
                    row.end(recorder);
                }
            });
        }
        assert_eq!(String::from_utf8_lossy(&text), whole);
        scene.exposition.fetched(slow.into_receipt());
        scene.book();
    }

    #[derive(Clone, Debug)]
    enum Event {
        Tick { values: Vec<bool>, ends: Vec<usize> },
        Asks { query: usize, format: bool },
        Fetched(usize),
        GivesUp(usize),
    }

    const QUERIES: [&str; 3] = ["", "name[]=x_calls_total", "name[]=x_sizes_bytes&name[]=x_level"];

    fn event() -> impl Strategy<Value = Event> {
        let values = prop::collection::vec(any::<bool>(), 12);
        let ends = prop::collection::vec(0_usize..4, 0..2);
        prop_oneof![
            3 => (values, ends).prop_map(|(values, ends)| Event::Tick { values, ends }),
            3 => (0_usize..3, any::<bool>()).prop_map(|(query, format)| Event::Asks { query, format }),
            2 => any::<usize>().prop_map(Event::Fetched),
            1 => any::<usize>().prop_map(Event::GivesUp),
        ]
    }

    /// The samples on a page, a line each: of a histogram the sum, since all counts are equal here.
    fn samples(text: &str) -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let of_others = ["_bucket{", "_count{", "_created{"];
        lines.filter(|line| of_others.iter().all(|other| !line.contains(other))).map(str::to_owned).collect()
    }

    proptest! {
        /// Every value is another one, so that what a client has had says of which view it was.
        #[test]
        fn what_clients_have_had_is_written_to_the_cell(events in prop::collection::vec(event(), 1..60)) {
            let mut scene = Scene::new();
            let (mut lives, mut born, mut value): (Vec<u64>, _, _) = ((0..4).collect(), 4, 0_u32);
            let mut pages: Vec<Page> = Vec::new();
            let (mut fetched, mut offered) = (BTreeSet::new(), 0);
            for event in events {
                match event {
                    Event::Tick { values, ends } => {
                        let columns = [
                            Column::counter("calls", Unit::CALLS, "Calls"),
                            Column::gauge("level", Unit::ONE, "Level"),
                            Column::histogram("sizes", Unit::BYTES, "Sizes"),
                        ];
                        let cells: Vec<_> = lives.iter().map(|n: &u64| {
                            columns.each_ref().map(|column| scene.column(&n.to_string(), column.clone()))
                        }).collect();
                        offered += scene.tick(|recorder| {
                            let is_there = |index: usize| values[index] || ends.contains(&(index / 3));
                            for (_, cell) in cells.iter().flatten().enumerate().filter(|(index, _)| is_there(*index)) {
                                value += 1;
                                cell.counter(recorder, value.into());
                                cell.gauge(recorder, value.into());
                                cell.histogram(recorder, &[1], value.into());
                            }
                            for row in ends {
                                cells[row][0].end(recorder);
                                lives[row] = born;
                                born += 1;
                            }
                        });
                    }
                    Event::Asks { query, format } => {
                        let format = if format { Format::Text } else { Format::OpenMetrics };
                        pages.extend(scene.exposition.page(format, &Wanted::read(QUERIES[query])));
                    }
                    Event::Fetched(index) if !pages.is_empty() => {
                        let page = pages.swap_remove(index % pages.len());
                        let (text, receipt) = read(page);
                        fetched.extend(samples(&text));
                        scene.exposition.fetched(receipt);
                    }
                    Event::GivesUp(index) if !pages.is_empty() => drop(pages.swap_remove(index % pages.len())),
                    Event::Fetched(_) | Event::GivesUp(_) => {}
                }
                let (written, ..) = scene.book();
                prop_assert_eq!(written, fetched.len() as u64);
            }
            drop(pages);
            scene.exposition.end();
            let (written, superseded, dropped, queued) = scene.book();
            prop_assert_eq!((written + superseded + dropped, queued), (offered, 0));
        }
    }
}
