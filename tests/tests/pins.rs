//! Which tiles stay in memory: a fixed set is the best there is for an order that repeats, and what
//! the planner chooses fetches just what it says. `ouro plan` says it before a run.

use ouro::ram::choose_pins;
use ouro_runtime::depth::FixedDepth;
use ouro_runtime::session::Settings;
use ouro_runtime::store::{MIN_TILE, Pin, Pinned, Span, Store};
use ouro_tests::harness::{golden, greedy, load, session};
use ouro_tests::{PagedStore, Ran, Random, run_command};
use serde_json::Value;
use tempfile::TempDir;

/// Fetches of a cache with room for `room` tiles beside the buffer that every tile passes through.
/// `keep` says which tile leaves when one more arrives, possibly that one itself.
fn fetches(order: &[usize], room: usize, mut leaves: impl FnMut(&[usize], usize) -> usize) -> usize {
    let mut kept: Vec<usize> = Vec::new();
    let mut fetches = 0;
    for (now, tile) in order.iter().enumerate() {
        if kept.contains(tile) {
            kept.retain(|other| other != tile);
        } else {
            fetches += 1;
        }
        kept.push(*tile); // the latest is the last
        if kept.len() > room {
            let at = leaves(&kept, now);
            kept.remove(at);
        }
    }
    fetches
}

/// What was used longest ago leaves.
fn least_recently_used(order: &[usize], room: usize) -> usize {
    fetches(order, room, |_, _| 0)
}

/// Belady's optimum: what is wanted again last leaves. It knows the future.
fn optimum(order: &[usize], room: usize) -> usize {
    fetches(order, room, |kept, now| {
        let next = |tile: &usize| order[now + 1..].iter().position(|next| next == tile).unwrap_or(usize::MAX);
        (0..kept.len()).max_by_key(|at| next(&kept[*at])).unwrap()
    })
}

/// Some tiles are kept once they were read, whatever happens: what the runtime does.
fn fixed_set(order: &[usize], tiles: usize, room: usize) -> usize {
    let file = vec![0; tiles * MIN_TILE];
    let tile = |number: usize| Span { offset: (number * MIN_TILE) as u64, len: MIN_TILE };
    let pins: Vec<Pin> = (0..room).map(|number| Pin::new(tile(number))).collect();
    let mut store = Pinned::new(PagedStore::new(&file, MIN_TILE), pins, vec![0; room * MIN_TILE]);
    for number in order {
        store.load(tile(*number), None).unwrap();
    }
    store.counters().tiles as usize
}

#[test]
fn a_fixed_set_is_optimal_for_an_order_that_repeats_and_lru_never_hits() {
    for (tiles, passes) in [(1, 5), (2, 4), (7, 6), (24, 8), (45, 3)] {
        let order: Vec<usize> = (0..passes).flat_map(|_| 0..tiles).collect();
        for room in 0..=tiles {
            let expected = tiles + (passes - 1) * (tiles - room);
            assert_eq!(fixed_set(&order, tiles, room), expected, "{tiles} tiles, room for {room}");
            assert_eq!(optimum(&order, room), expected, "{tiles} tiles, room for {room}");
            let all = if room < tiles { order.len() } else { tiles };
            assert_eq!(least_recently_used(&order, room), all, "{tiles} tiles, room for {room}");
        }
    }
}

#[test]
fn what_is_chosen_fits_and_is_spread() {
    let mut random = Random::new(6);
    for case in 0..500 {
        let mut offset = 0;
        let tiles: Vec<Span> = (0..=random.below(60))
            .map(|_| {
                let len = 1 + random.below(if case % 2 == 0 { 1000 } else { 1 });
                offset += len as u64;
                Span { offset: offset - len as u64, len }
            })
            .collect();
        let total: usize = tiles.iter().map(|tile| tile.len).sum();
        let (stack, head) = tiles.split_at(tiles.len().div_ceil(2));
        for room in [0, total / 7, total / 2, total - 1, total, 2 * total] {
            let pins = choose_pins(stack, head, 2, room);
            let len = |tiles: &[Span]| tiles.iter().map(|tile| tile.len).sum::<usize>();
            assert!(len(&pins) <= room, "case {case}, room {room}: {pins:?} of {tiles:?}");
            let left: Vec<&Span> = tiles.iter().filter(|tile| !pins.contains(tile)).collect();
            let stack_left = stack.iter().any(|tile| !pins.contains(tile));
            assert!(!stack_left || !pins.iter().any(|pin| head.contains(pin)), "the stack comes first");
            let fits = |tile: &&&Span| (stack.contains(tile) || !stack_left) && tile.len <= room - len(&pins);
            assert!(left.iter().find(fits).is_none(), "case {case}, room {room}: {left:?} would fit");
        }
        // Of equal tiles every second one is kept, where there is room for half of them.
        if case % 2 == 1 && stack.len() % 2 == 0 {
            let pins = choose_pins(stack, head, 2, stack.len() / 2);
            assert!(pins.windows(2).all(|pair| pair[1].offset - pair[0].offset == 2), "{pins:?}");
        }
        // With one loop the head is read as often as the stack.
        if case % 2 == 1 && tiles.len().is_multiple_of(2) {
            let pins = choose_pins(stack, head, 1, tiles.len() / 2);
            assert!(pins.windows(2).all(|pair| pair[1].offset - pair[0].offset == 2), "{pins:?}");
            assert_eq!(pins.len(), tiles.len() / 2);
        }
    }
}

/// Bytes fetched per token are those of the tiles that are not pinned, times the loops, and those of
/// the head and one embedding row; tokens do not change.
#[test]
fn bytes_per_token_are_known_beforehand() {
    let path = golden("wide/wide-Q4_0.gguf");
    let model = load(&path).model;
    let file = std::fs::read(&path).unwrap();
    let loops = model.config().loops;
    let settings = Settings::new(model, 32, 8);
    let run = |store: &mut Pinned<PagedStore<'_>, Vec<Pin>, Vec<u8>>, count| {
        greedy(&mut session(model, settings), store, &FixedDepth, &[1, 2, 3], count).unwrap().tokens
    };
    let mut expected = None;
    for tile in [MIN_TILE.max(model.largest_row()), 5000, 40_000] {
        let [stack, head] = [model.stack_tiles(tile), model.head_tiles(tile)]
            .map(|tiles| tiles.map(|tile| tile.span).collect::<Vec<_>>());
        let len = |tiles: &[Span]| tiles.iter().map(|tile| tile.len as u64).sum::<u64>();
        let order: u64 = model.token_tiles(loops, tile).map(|tile| tile.span.len as u64).sum();
        assert_eq!(order, loops as u64 * len(&stack) + len(&head));
        for part in 0..=4 {
            let room = (len(&stack) + len(&head)) * part / 4;
            let mut pins = choose_pins(&stack, &head, loops, room as usize);
            let in_stack: Vec<Span> = pins.iter().filter(|pin| stack.contains(pin)).copied().collect();
            let in_head = len(&pins) - len(&in_stack);
            pins.sort_by_key(|pin| pin.offset);
            let memory = vec![0; len(&pins) as usize];
            let pins = pins.into_iter().map(Pin::new).collect();
            let mut store = Pinned::new(PagedStore::new(&file, tile), pins, memory);
            run(&mut store, 2); // fills what is pinned
            let before = store.counters();
            let tokens = run(&mut store, 6);
            assert_eq!(tokens, *expected.get_or_insert(tokens.clone()), "tile {tile}, part {part}");
            let fetched = store.counters().bytes - before.bytes;
            // A prompt of three rows, then five tokens of one.
            let rows = (3 + 5) * model.embedding_row(0).len as u64;
            let per_token = loops as u64 * (len(&stack) - len(&in_stack)) + len(&head) - in_head;
            assert_eq!(fetched, 6 * per_token + rows, "tile {tile}, part {part}");
        }
    }
}

fn ouro(args: &[&str]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, b"")
}

/// `ouro plan` says beforehand, to the byte, what `ouro run` then takes and fetches.
#[test]
fn the_plan_is_what_a_run_takes() {
    let folder = TempDir::new().unwrap();
    let mut exact = 0;
    for kind in ["q4_0", "f16"] {
        let path = folder.path().join(kind);
        let file = path.to_str().unwrap();
        let made = ouro(&["random", file, "--like", "pico", "--type", kind]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let first = ouro(&[
            "run",
            "-m",
            file,
            "--ram",
            "100M",
            "--tokens",
            "5",
            "--max-new",
            "1",
            "--threads",
            "1",
            "--json",
        ]);
        let program = first.json()["memory"]["program"].to_string();
        let cases: [&[&str]; 8] = [
            &[],
            &["--kv-type", "int8", "--ctx", "300"],
            &["--kv", "per-loop", "--loops", "2"],
            &["--kv", "averaged", "--kv-type", "int4", "--loops", "3"],
            &["--kv-window", "0", "--block-buffer", "96K"],
            &["--pin", "none", "--loops", "1"],
            &["--pin", "blk.1", "--verify", "never"],
            &["--block-buffer", "24K", "--verify", "never"],
        ];
        // Matrices of the same shapes in other sizes: what depends on tiles is enough.
        let cases = if kind == "f16" { &cases[5..] } else { &cases[..] };
        for options in cases {
            let context = if options.contains(&"--ctx") { &[][..] } else { &["--ctx", "200"] };
            let options = &[options, context].concat();
            let plan = |ram: &str, model: &[&str]| {
                let common = ["plan", "--ram", ram, "--prompt", "3", "--program", &program, "--json"];
                ouro(&[&common[..], model, options].concat())
            };
            let least = plan("1G", &["-m", file]).json()["least_ram"].as_u64().unwrap();
            // The least, room for some weights, and for all.
            for ram in [least, least + (200 << 10), least + (5 << 20)] {
                let ram = format!("{}K", ram / 1024);
                let label = format!("{kind} {ram} {options:?}");
                let planned = plan(&ram, &["-m", file]).json();
                // Without the file it is the same.
                let like = plan(&ram, &["--like", "pico", "--type", kind]).json();
                for part in ["memory", "bytes_per_token", "pinned_bytes", "least_ram", "longest_context"] {
                    assert_eq!(planned[part], like[part], "{label}: {part}");
                }
                let run = |count: &str| {
                    let common = ["run", "-m", file, "--ram", &ram, "--tokens", "5,9,30", "--ignore-eos"];
                    // A budget that is never felt, so that its worst case is told.
                    let more = ["--max-new", count, "--exit", "fixed", "--threads", "1", "--json"];
                    let more = [&more[..], &["--budget", "99"]].concat();
                    ouro(&[&common[..], &more, options].concat()).json()
                };
                let [short, long] = [run("2"), run("7")];
                assert_eq!(planned["memory"], long["memory"], "{label}");
                let worst = &long["budget"]["worst_case_per_token"]["bytes"];
                assert_eq!(&planned["bytes_per_token"]["worst_case"], worst, "{label}");
                let bytes = |json: &Value, name: &str| json[name].as_u64().unwrap();
                let part = |name| bytes(&planned["memory"], name);
                let counter = |run: &Value, name| bytes(&run["counters"], name);
                assert_eq!(
                    counter(&long, "arena_bytes"),
                    part("tables") + part("kv") + part("activations"),
                    "{label}"
                );
                assert_eq!(counter(&long, "pinned_bytes"), part("weights"), "{label}");
                assert!(
                    bytes(&planned, "memory_total")
                        <= ram.trim_end_matches('K').parse::<u64>().unwrap() * 1024
                );
                let per_token = &planned["bytes_per_token"];
                let loops = per_token["by_depth"].as_array().unwrap().len() as u64;
                let expected = 5 * (loops * bytes(per_token, "loop") + bytes(per_token, "head"));
                let fetched = counter(&long, "bytes_fetched") - counter(&short, "bytes_fetched");
                // An embedding that is at hand already is not fetched again, nor are two tiles or one, which
                // stay in the halves of the block buffer. In each of three layers a short tile may have come
                // with the page before it. One tile is on order at the end, which one run may count and the
                // other not.
                let embeddings = 5 * bytes(per_token, "embedding_at_most");
                let tile = bytes(&planned, "max_tile");
                let stays = bytes(per_token, "loop") <= 2 * tile;
                let short_tiles = 5 * loops * 3 * 4096;
                assert!(fetched <= expected + embeddings + tile, "{label}: {fetched}, {expected}");
                assert!(stays || fetched + tile + short_tiles >= expected, "{label}: {fetched}, {expected}");
                exact += usize::from(!stays);
                let most = per_token["by_depth"][loops as usize - 1].as_u64().unwrap();
                assert_eq!(most, expected / 5 + bytes(per_token, "embedding_at_most"));
            }
            let ram = format!("{}K", least / 1024 - 4);
            let refused = plan(&ram, &["-m", file]);
            let named = format!("{}K at least", least / 1024);
            assert!(refused.code == Some(4) && refused.stderr.contains(&named), "{}", refused.stderr);
            let refused = ["run", "-m", file, "--ram", &ram, "--tokens", "5,9,30", "--threads", "1"];
            ouro(&[&refused[..], options].concat()).expect_error(4, &[&named]);
        }
    }
    assert!(exact > 15, "{exact}");
}

/// Checksums lie in memory: four bytes, and a bit when they were looked at, for each 4096 of weights.
#[test]
fn the_plan_counts_the_checksums_of_a_large_file() {
    let plan = |options: &[&str], part: &str| {
        let like = ["plan", "--like", "ouro-2.6b", "--type", "q8_0", "--json"];
        ouro(&[&like[..], options].concat()).json()["memory"][part].as_u64().unwrap()
    };
    let file = plan(&["--store", "memory"], "weights");
    let expected = file / 4096 * 33 / 8;
    assert!(expected > 2 << 20, "{expected}");
    for place in [&["--ram", "1G"][..], &["--store", "memory"]] {
        let [some, none] = [&[][..], &["--verify", "never"]];
        let counted = plan(&[place, some].concat(), "reserve") - plan(&[place, none].concat(), "reserve");
        assert!(counted <= expected && counted > expected / 100 * 99, "{counted}, {expected} {place:?}");
    }
}

/// The built-in model is in memory from the start.
#[test]
fn the_plan_of_a_model_in_memory() {
    let options = ["--kv-type", "int8", "--ctx", "100", "--loops", "3"];
    let plan = ouro(&[&["plan", "--prompt", "3", "--json"][..], &options].concat()).json();
    let run = ouro(&[&["run", "--tokens", "5,9,30", "--json"][..], &options].concat()).json();
    assert_eq!(plan["memory"], run["memory"]);
    assert_eq!(plan["bytes_per_token"]["by_depth"], serde_json::json!([0, 0, 0]));
    let weights = std::fs::metadata(golden("../../models/ouro-pico/ouro-pico-Q4_0.gguf")).unwrap().len();
    assert_eq!(plan["memory"]["weights"], weights);
}

/// Speed follows from the rates: each bound alone, against the numbers of the published shape.
#[test]
fn the_time_model() {
    let plan = |flash: &str, mem: &str, gmacs: &str, more: &[&str]| {
        let rates =
            ["--flash", flash, "--mem", mem, "--gmacs", gmacs, "--ctx", "1001", "--prompt", "1", "--json"];
        let model = ["plan", "--like", "ouro-1.4b", "--type", "q4_0"];
        ouro(&[&model[..], &rates, more].concat()).json()
    };
    let (endless, ram) = ("100000GB/s", ["--ram", "300M", "--pin", "none"]);
    let seconds =
        |json: &Value, depth: usize| json["speed"]["decode"][depth - 1]["seconds"].as_f64().unwrap();
    let close =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
    let (layers, hidden, ffn, vocab) = (24.0, 2048.0, 5632.0, 49152.0);
    let stack = layers * hidden * (4.0 * hidden + 3.0 * ffn);
    for depth in [1, 4] {
        let d = depth as f64;
        let json = plan("100MB/s", endless, "1000000", &ram);
        close(seconds(&json, depth), json["bytes_per_token"]["by_depth"][depth - 1].as_f64().unwrap() / 1e8);
        assert_eq!(json["speed"]["decode"][depth - 1]["bound_by"], "flash");
        // Weights of 4.5 bits, the head of 6.5625; every position before it and its own in f16.
        let json = plan(endless, "1GB/s", "1000000", &ram);
        let weights = d * stack * 4.5 / 8.0 + hidden * vocab * 6.5625 / 8.0;
        let position = json["speed"]["at_position"].as_f64().unwrap();
        assert_eq!(position, 501.0);
        let kv = d * layers * (position + 1.0) * 2.0 * hidden * 2.0;
        close(seconds(&json, depth), (weights + kv) / 1e9);
        assert_eq!(json["speed"]["decode"][depth - 1]["bound_by"], "memory");
        let json = plan(endless, endless, "10", &ram);
        close(seconds(&json, depth), (d * stack + hidden * vocab) / 1e10);
        // Nothing overlaps when it is slowest, nor in mapped flash.
        let json = plan("100MB/s", endless, "1", &ram);
        let both = json["bytes_per_token"]["worst_case"].as_f64().unwrap() / 1e8
            + (4.0 * stack + hidden * vocab) / 1e9;
        close(json["speed"]["worst_token_seconds"].as_f64().unwrap(), both);
        let json = plan("100MB/s", endless, "1", &["--mapped"]);
        let bytes = json["bytes_per_token"]["by_depth"][depth - 1].as_f64().unwrap();
        close(seconds(&json, depth), bytes / 1e8 + (d * stack + hidden * vocab) / 1e9);
    }
    let json = plan(endless, endless, "10", &["--ram", "300M", "--exit", "q=0.5", "--mean-depth", "2.5"]);
    close(json["speed"]["mean"]["seconds"].as_f64().unwrap(), (2.5 * stack + hidden * vocab) / 1e10);
    // Twice as fast a flash is twice as good where flash is the bound, and said first.
    let json = plan("100MB/s", endless, "1000000", &ram);
    let first = &json["changes"][0];
    assert!(first["gain"].as_f64().unwrap() > 1.5, "{json}");
}

#[test]
fn a_plan_for_people_and_its_errors() {
    let like = ["--like", "ouro-1.4b", "--type", "q4_0"];
    let plan = |options: &[&str]| ouro(&[&["plan"], &like[..], options].concat());
    let text = plan(&["--ram", "400M", "--board", "pi5"]);
    for word in
        ["weights", "K and V", "in all", "tokens/s", "4 loops", "bound by", "prompt of 128", "would help"]
    {
        assert!(text.text().contains(word), "{word}: {}", text.text());
    }
    assert!(ouro(&["plan", "--list-boards"]).text().contains("derived"));
    let boards =
        ["pi-zero-2", "pi4", "pi5"].map(|board| plan(&["--ram", "400M", "--board", board, "--json"]).json());
    let speed = |json: &Value| json["speed"]["prefill"]["tokens_per_second"].as_f64().unwrap();
    assert!(boards.iter().map(speed).is_sorted());
    // A board's own memory bounds what comes from a file, and only that.
    let json = plan(&["--board", "pi-zero-2", "--json"]).json();
    assert_eq!((json["ram"].as_u64(), &json["fits"]), (Some(384 << 20), &true.into()), "{json}");
    assert!(!plan(&["--board", "pi-zero-2"]).text().contains("--ram"));
    for options in
        [&["plan", "--board", "pi-zero-2"][..], &["plan", "--board", "pi-zero-2", "--store", "memory"]]
    {
        assert_eq!(ouro(options).code, Some(0));
    }
    // What does not fit is a report too, for programs on standard output.
    let ran = plan(&["--ram", "100M", "--json"]);
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    let refused: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&refused["fits"], &refused["memory"]), (&false.into(), &Value::Null));
    assert!(refused["least_ram"].as_u64().unwrap() > 100 << 20);
    let longest = refused["longest_context"].as_u64().unwrap();
    assert!((1..384).contains(&longest), "{refused}");
    let fits = |context: u64| {
        plan(&["--ram", "100M", "--ctx", &context.to_string(), "--prompt", &context.min(128).to_string()])
            .code
    };
    assert_eq!((fits(longest), fits(longest + 1)), (Some(0), Some(4)));
    for (given, says) in [
        (&[][..], "rp2350 has 520 KiB of RAM, which is too little"),
        (&["--ram", "510K"], "--ram 510 KiB is too little"),
    ] {
        let ran = ouro(&[&["plan", "--board", "rp2350", "--ctx", "512", "--kv-type", "f32"], given].concat());
        assert_eq!(ran.code, Some(4), "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{says:?} expected in {}", ran.stderr);
    }
    let cases: [(i32, &[&str], &[&str]); 8] = [
        (2, &["plan", "--like", "pico"], &["--type"]),
        (2, &["plan", "--ram", "100M"], &["need a file"]),
        (2, &["plan", "--mem", "8GB/s"], &["--gmacs"]),
        (2, &["plan", "--mem", "fast", "--gmacs", "4"], &["fast found", "8GB/s"]),
        (2, &["plan", "--board", "abacus"], &["abacus", "pi5"]),
        (2, &["plan", "--mapped", "--gmacs", "1", "--mem", "1GB/s"], &["--flash"]),
        (2, &["plan", "--ctx", "10", "--prompt", "20"], &["longer than the context"]),
        (2, &["plan", "--block-buffer", "1M"], &["--block-buffer", "--ram"]),
    ];
    for (code, args, words) in cases {
        ouro(args).expect_error(code, words);
    }
}

/// No figure that was measured is asserted, only that there are some.
#[test]
fn the_rates_of_this_machine() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pico.gguf");
    let file = path.to_str().unwrap();
    assert_eq!(ouro(&["random", file, "--like", "pico", "--type", "q8_0"]).code, Some(0));
    let json = ouro(&["plan", "-m", file, "--ram", "100M", "--measure", "--json"]).json();
    for rate in ["flash", "memory", "kv", "macs"] {
        assert!(json["rates"][rate].as_f64().is_some_and(|rate| rate > 0.0), "{rate}: {json}");
    }
}
