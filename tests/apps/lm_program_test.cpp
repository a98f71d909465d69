// The built program lm, from outside.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "sketchgrad/tests/apps/program_testing.h"

namespace sketchgrad::apps {
namespace {

const std::string kProgram = program_path("lm");

struct Run {
  TemporaryFolder folder;
  std::string texts;
  Run() {
    texts = " --train " + folder.file("train", generated_text(100, 40, 1)) + " --valid " +
            folder.file("valid", generated_text(30, 40, 2)) + " --cache none";
  }
  CommandResult lm(const std::string& arguments) const {
    return run_command(kProgram + " " + arguments);
  }
  std::string small() const {
    return "train" + texts + " --embedding-dim 8 --hidden 8 --layers 1 --bptt 5 --batch 4";
  }
};

void check_error(const CommandResult& result, int code, const std::string& part) {
  check_error_of("lm", result, code, part);
}

TEST_CASE("lm program: help") {
  const Run run;
  const CommandResult all = run.lm("--help");
  CHECK(all.code == 0);
  CHECK(all.output.find("generate") != std::string::npos);
  const CommandResult train = run.lm("train --help");
  CHECK(train.code == 0);
  for (const char* flag :
       {"--train",    "--valid",      "--test",          "--vocab-min",     "--embedding-dim",
        "--hidden",   "--layers",     "--projection",    "--dropout",       "--tie",
        "--bptt",     "--batch",      "--epochs",        "--steps",         "--optimizer",
        "--moment1",  "--moment2",    "--learning-rate", "--schedule",      "--clip",
        "--seed",     "--threads",    "--device",        "--precision",     "--checkpoint",
        "--resume",   "--report",     "--metrics",       "--sketch-tables", "--config",
        "--cache",    "--softmax",    "--samples",       "--sampler",       "--cutoffs",
        "--lsh-bits", "--vocab-limit"}) {
    CAPTURE(flag);
    CHECK(train.output.find(flag) != std::string::npos);
  }
  // Pairs of flags have defaults as well.
  CHECK(train.output.find("embedding and output [off]") != std::string::npos);
  CHECK(train.output.find("the sample's [on]") != std::string::npos);
  for (const char* command : {"eval --help", "generate --help"}) {
    CHECK(run.lm(command).output.find("latest.safetensors is taken") != std::string::npos);
  }
}

TEST_CASE("lm program: wrong usage is one line and exit code 2") {
  const Run run;
  check_error(run.lm(""), 2, "subcommand");
  check_error(run.lm("trian"), 2, "there is no command 'trian'; there are train, eval, generate");
  check_error(run.lm("train"), 2, "--train");
  check_error(run.lm(run.small() + " --bogus 1"), 2, "--bogus");
  check_error(run.lm(run.small() + " --batch 0"), 2, "--batch");
  check_error(run.lm(run.small() + " --batch 100000"), 2, "too few");
  check_error(run.lm(run.small() + " --tie --projection 3"), 2, "--tie");
  check_error(run.lm(run.small() + " --moment2 sketch:7"), 2, "--moment2: ratio 7 in 'sketch:7'");
  check_error(run.lm(run.small() + " --moment1 sketch:0.2,reading=foo"), 2,
              "--moment1: unknown reading 'foo'");
  check_error(run.lm(run.small() + " --softmax lsh"), 2, "--lsh-tail: 4096 different classes");
  check_error(run.lm(run.small() + " --softmax sampled"), 2, "--samples: 8192 different classes");
  check_error(run.lm(run.small() + " --schedule sometimes"), 2, "sometimes");
  check_error(run.lm(run.small() + " --config nowhere"), 2, "wikitext2");
  check_error(run.lm(run.small() + " --device tpu"), 2, "tpu");
  check_error(run.lm(run.small() + " --precision fp8"), 2, "fp8");
  check_error(run.lm(run.small() + " --precision tf32"), 2, "products on the CPU are in fp32");
}

TEST_CASE("lm program: what cannot be done is one line and exit code 1") {
  const Run run;
  check_error(run.lm("train --train /nowhere --valid /nowhere --cache none"), 1, "/nowhere");
  check_error(run.lm(run.small() + " --test " + run.folder.file("bad.xz", "no xz")), 1, "bad.xz");
  check_error(run.lm(run.small() + " --steps 1 --report /nowhere/report.json"), 1, "/nowhere");
  check_error(run.lm(run.small() + " --steps 1 --metrics /nowhere/metrics.jsonl"), 1, "/nowhere");
  const std::string broken = run.folder.file("broken.safetensors", "nothing of the kind");
  check_error(run.lm("eval --checkpoint " + broken + " --data /nowhere"), 1, "broken");
  check_error(run.lm("generate --checkpoint /nowhere"), 1, "/nowhere");
  // Also where there is a GPU, and in a build without CUDA.
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  check_error(run.lm(run.small() + " --device cuda"), 1, "use cpu");
}

TEST_CASE("lm program: trains by a named config, then scores and generates") {
  const Run run;
  const std::string checkpoint = run.folder / "run";
  const CommandResult trained =
      run.lm(run.small() + " --config wikitext2 --steps 5 --checkpoint " + checkpoint);
  CAPTURE(trained.output);
  CHECK(trained.code == 0);
  CHECK(trained.output.find("optimizer_state") != std::string::npos);
  const CommandResult scored =
      run.lm("eval --checkpoint " + checkpoint + " --data " + (run.folder / "valid") +
             " --report " + (run.folder / "eval.json"));
  CHECK(scored.code == 0);
  CHECK(read_whole(run.folder / "eval.json").find("perplexity") != std::string::npos);
  const std::string latest = checkpoint + "/latest.safetensors";
  std::filesystem::rename(latest, checkpoint + "/hidden");
  for (const std::string& command :
       {std::string("generate"), "eval --data " + (run.folder / "valid")}) {
    check_error(run.lm(command + " --checkpoint " + checkpoint), 1,
                checkpoint + ": has no latest.safetensors; its best is " + checkpoint +
                    "/best.safetensors");
  }
  std::filesystem::rename(checkpoint + "/hidden", latest);
  const CommandResult text =
      run.lm("generate --checkpoint " + checkpoint + " --prompt 'w1 w2' --length 5");
  CHECK(text.code == 0);
  CHECK(text.output.starts_with("w1 w2"));
  check_error(run.lm(run.small() + " --steps 5 --checkpoint " + checkpoint), 2, "--resume");
}

TEST_CASE("lm program: texts that are too short are refused before training, with their names") {
  const Run run;
  const std::string tiny = run.folder.file("tiny", "w1 w2 w3\n");
  const std::string metrics = run.folder.file("metrics", "old\n");
  const std::string few = " --steps 1 --metrics " + metrics;
  check_error(run.lm(run.small() + few + " --test " + tiny), 2, "--test " + tiny + ": 4 tokens");
  check_error(run.lm(run.small() + few + " --valid " + tiny), 2, "--valid " + tiny + ": 4 tokens");
  check_error(run.lm(run.small() + few + " --valid-limit 19"), 2,
              "--valid " + (run.folder / "valid") + ": 19 tokens");
  check_error(run.lm(run.small() + few + " --batch 100000"), 2,
              "--train " + (run.folder / "train") + ": ");
  CHECK(read_whole(metrics) == "old\n");
  const std::string checkpoint = " --checkpoint " + (run.folder / "run");
  REQUIRE(run.lm(run.small() + few + checkpoint).code == 0);
  check_error(run.lm("eval --data " + tiny + checkpoint), 2, "--data " + tiny + ": 4 tokens");
}

TEST_CASE("lm program: a cache that cannot be made is told once") {
  const Run run;
  const std::string cache = run.folder.file("taken", "") + "/cache";
  const CommandResult result = run.lm(run.small() + " --steps 1 --cache " + cache);
  CAPTURE(result.output);
  CHECK(result.code == 0);
  const std::string line =
      "lm: going on without a cache: [cache] " + cache + ": cannot be made: Not a directory\n";
  CHECK(result.output.find(line) != std::string::npos);
  CHECK(result.output.find("without a cache") == result.output.rfind("without a cache"));
}

TEST_CASE("lm program: several training texts are one") {
  const Run run;
  const std::string text = generated_text(200, 40, 5);
  const size_t end = text.find('\n', text.size() / 2) + 1;
  const std::string whole = run.folder.file("whole", text);
  const std::string first = run.folder.file("first", text.substr(0, end));
  const std::string second = run.folder.file("second.gz", gzip(text.substr(end)));
  const std::string rest = " --valid " + (run.folder / "valid") + " --cache none --vocab-min 2" +
                           " --embedding-dim 8 --hidden 8 --layers 1 --bptt 5 --batch 4";
  const auto train = [&](const std::string& arguments) {
    return run.lm("train" + rest + " " + arguments);
  };
  const std::string report = run.folder / "report.json";
  const std::string checkpoint = " --checkpoint " + (run.folder / "run");
  REQUIRE(train("--steps 3 --train " + whole + checkpoint).code == 0);
  // It goes on only where the training text is the same.
  const std::string resumed = " --resume --report " + report + checkpoint;
  CHECK(train("--steps 4 --train " + first + " " + second + resumed).code == 0);
  CHECK(train("--steps 5 --train " + first + " --train=" + second + resumed).code == 0);
  CHECK(nlohmann::json::parse(read_whole(report))["train"] == nlohmann::json{first, second});
  const std::string config =
      run.folder.file("c.toml", "train = [\"" + first + "\", \"" + second + "\"]\n");
  CHECK(train("--steps 6 --config " + config + resumed).code == 0);
  check_error(train("--steps 7 --train " + second + " " + first + resumed), 2, "text_checksum");
  check_error(train("--steps 7 --train " + first + " /nowhere " + second), 1, "/nowhere");
  const std::string bad = run.folder.file("bad", std::string("a\n\0", 3));
  check_error(train("--steps 7 --train " + first + " " + bad + " " + second), 1, bad + ":2");
}

TEST_CASE("lm program: tells of words that were dropped, from the cache, too") {
  const Run run;
  const std::string cached = run.small() + " --steps 1 --cache " + (run.folder / "cache");
  for (int repeat = 0; repeat < 2; ++repeat) {
    const CommandResult result = run.lm(cached + " --vocab-limit 10");
    CAPTURE(result.output);
    CHECK(result.code == 0);
    CHECK(result.output.find("more than --vocab-limit 10 different words") != std::string::npos);
  }
  CHECK(run.lm(cached).output.find("--vocab-limit") == std::string::npos);
}

TEST_CASE("lm program: a report that cannot be written is refused before training") {
  const Run run;
  const std::string checkpoint = run.folder / "run";
  std::filesystem::create_directory(run.folder / "taken");
  check_error(run.lm(run.small() + " --steps 1 --checkpoint " + checkpoint + " --report " +
                     (run.folder / "taken")),
              1, "taken");
  CHECK_FALSE(std::filesystem::exists(checkpoint + "/latest.safetensors"));
}

TEST_CASE(
    "lm program: a checkpoint folder that takes no files is refused before the texts are read") {
  const Run run;
  const CommandResult result = run.lm(run.small() + " --steps 1 --checkpoint /proc");
  check_error(result, 1, "/proc");
  CHECK(result.output.find("tokens") == std::string::npos);
}

TEST_CASE("lm program: what stderr does not take changes nothing") {
  const Run run;
  const std::string checkpoint = run.folder / "run";
  const auto unheard = [&](const std::string& arguments) {
    return run_command("(" + kProgram + " " + arguments + " 2>/dev/full)").code;
  };
  CHECK(unheard(run.small() + " --steps 3 --eval-every 1 --checkpoint " + checkpoint) == 0);
  CHECK(std::filesystem::exists(checkpoint + "/best.safetensors"));
  CHECK(unheard(run.small() + " --bogus") == 2);
  CHECK(unheard("generate --checkpoint /nowhere") == 1);
}

TEST_CASE("lm program: results that stdout does not take are an error, after the report") {
  const Run run;
  const std::string checkpoint = run.folder / "run";
  const std::string report = run.folder / "report.json";
  const auto lost = [&](const std::string& arguments) {
    return run_command("(" + kProgram + " " + arguments + " 2>&1 >/dev/full)");
  };
  check_error(lost(run.small() + " --steps 2 --checkpoint " + checkpoint + " --report " + report),
              1, "[stdout]");
  CHECK(std::filesystem::exists(report));
  check_error(lost("eval --checkpoint " + checkpoint + " --data " + (run.folder / "valid")), 1,
              "[stdout]");
  check_error(lost("generate --checkpoint " + checkpoint), 1, "[stdout]");
  // More than a buffer holds.
  check_error(lost("generate --length 20000 --checkpoint " + checkpoint), 1, "[stdout]");
  check_error(lost("--help"), 1, "[stdout]");
}

TEST_CASE("lm program: metrics on a full disk leave a checkpoint to go on from") {
  const Run run;
  const std::string arguments =
      run.small() + " --steps 6 --log-every 4 --checkpoint " + (run.folder / "run");
  check_error(run.lm(arguments + " --metrics /dev/full"), 1, "/dev/full");
  CHECK(load_safetensors(run.folder / "run/latest.safetensors").integer("optimizer.steps") == 4);
  CHECK(run.lm(arguments + " --resume").code == 0);
  CHECK(run.lm(run.small() + " --steps 6 --log-every 4 --checkpoint " + (run.folder / "whole"))
            .code == 0);
  CHECK(same_bits(load_safetensors(run.folder / "run/latest.safetensors"),
                  load_safetensors(run.folder / "whole/latest.safetensors")));
}

TEST_CASE("lm program: names of files need not be UTF-8") {
  const Run run;
  const std::string text = run.folder.file("caf\xe9.txt", generated_text(30, 40, 3));
  const std::string report = run.folder / "report.json";
  CHECK(run.lm(run.small() + " --steps 1 --test " + text + " --report " + report).code == 0);
  CHECK(read_whole(report).find("caf\xef\xbf\xbd.txt") != std::string::npos);
}

// Sanitizers map more than any limit leaves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("lm program: without memory it tells for what") {
  const Run run;
  // One line, which does not fit; the file takes no space.
  const std::string text = run.folder.file("endless.txt", "");
  std::filesystem::resize_file(text, 1000 << 20);
  const CommandResult result =
      run_command("(ulimit -v 1400000; " + kProgram + " train --cache none --train " + text +
                  " --valid " + text + ")");
  CAPTURE(result.output);
  CHECK(result.code == 1);
  CHECK(result.output.find("lm: error: [text] reading " + text) != std::string::npos);
}
#endif

TEST_CASE("lm program: a memory profile that cannot be written is refused before training") {
  const Run run;
  const std::string metrics = run.folder.file("metrics", "old\n");
  const std::string taken = run.folder.file("taken", "");
  std::filesystem::create_directories(run.folder / "full/memory.json");
  for (const std::string& folder : {taken, run.folder / "full"}) {
    CAPTURE(folder);
    const CommandResult result =
        run.lm(run.small() + " --steps 1 --metrics " + metrics + " --memory-profile " + folder);
    check_error(result, 1, "[memory profile] " + folder);
    CHECK(result.output.find("[memory profile]") == result.output.rfind("[memory profile]"));
  }
  CHECK(read_whole(metrics) == "old\n");
}

TEST_CASE("lm program: what is read is not written over, nor is one file written twice") {
  const Run run;
  const std::string train = run.folder / "train", valid = run.folder / "valid";
  const std::string text = read_whole(train), other = read_whole(valid);
  const std::string few = run.small() + " --steps 1";
  check_error(run.lm(few + " --metrics " + train), 2, "--metrics: " + train + " is an input");
  check_error(run.lm(few + " --report " + valid), 2, "--report: " + valid + " is an input");
  const std::string config = run.folder.file("c.toml", "clip = 2\n");
  check_error(run.lm(few + " --config " + config + " --metrics " + config), 2, "that of --config");
  CHECK(read_whole(config) == "clip = 2\n");
  const std::string both = run.folder / "both";
  check_error(run.lm(few + " --report " + both + " --metrics " + both), 2, "--metrics: " + both);
  const std::string checkpoint = run.folder / "run";
  check_error(
      run.lm(few + " --checkpoint " + checkpoint + " --report " + checkpoint + "/best.safetensors"),
      2, "--checkpoint: ");
  REQUIRE(run.lm(few + " --checkpoint " + checkpoint).code == 0);
  const std::string scores = "eval --checkpoint " + checkpoint + " --data " + valid + " --report ";
  const std::string best = read_whole(checkpoint + "/best.safetensors");
  check_error(run.lm(scores + valid), 2, "--report: " + valid + " is an input");
  check_error(run.lm(scores + checkpoint + "/best.safetensors"), 2, "that of --checkpoint");
  CHECK(read_whole(checkpoint + "/best.safetensors") == best);
  CHECK(read_whole(train) == text);
  CHECK(read_whole(valid) == other);
}

// Of the advice, what stands before "saves" in each line.
std::vector<std::string> proposals_of(const std::string& output) {
  std::vector<std::string> proposals;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("  --")) continue;
    const size_t end = line.find(" saves ");
    REQUIRE(end != std::string::npos);
    proposals.push_back(line.substr(2, end - 2));
  }
  return proposals;
}

TEST_CASE("lm program: what is proposed where memory runs out can be run as it is printed") {
  const Run run;
  const std::string given = run.small() + " --steps 1 --beta1 0.9 --beta2 0.99";
  std::set<std::string> all;
  for (const char* limit : {"1KB", "15KB"}) {
    const CommandResult failed = run.lm(given + " --memory-limit " + limit);
    CHECK(failed.code == 1);
    for (const std::string& proposal : proposals_of(failed.output)) all.insert(proposal);
  }
  CHECK(std::any_of(all.begin(), all.end(), [](const std::string& proposal) {
    return proposal.find("--moment1 none --moment2 rank1 --beta1 0") != std::string::npos;
  }));
  for (const std::string& proposal : all) {
    CAPTURE(proposal);
    const CommandResult result = run.lm(given + " " + proposal);
    CAPTURE(result.output);
    CHECK(result.code == 0);
  }
}

TEST_CASE("lm program: an early error leaves the metrics of another run") {
  const Run run;
  const std::string metrics = run.folder.file("metrics", "old\n");
  check_error(run.lm(run.small() + " --test /nowhere --metrics " + metrics), 1, "/nowhere");
  CHECK(read_whole(metrics) == "old\n");
}

TEST_CASE("lm program: tells where a schedule now ends elsewhere") {
  const Run run;
  const std::string arguments =
      run.small() + " --schedule cosine:1 --checkpoint " + (run.folder / "run");
  CHECK(run.lm(arguments + " --steps 3").code == 0);
  const CommandResult same = run.lm(arguments + " --steps 3 --resume");
  CHECK(same.code == 0);
  CHECK(same.output.find("schedule") == std::string::npos);
  const CommandResult longer = run.lm(arguments + " --steps 5 --resume");
  CAPTURE(longer.output);
  CHECK(longer.code == 0);
  CHECK(longer.output.find("ends at step 5 now, before it was step 3") != std::string::npos);
}

pid_t start(const std::string& arguments, const std::string& output) {
  return start_program("lm", arguments, output);
}

int64_t lines_of(const std::string& file) {
  const std::string content = read_whole(file);
  return std::count(content.begin(), content.end(), '\n');
}

// Entries of a metrics log, without what is measured.
std::vector<nlohmann::json> entries_of(const std::string& metrics) {
  std::vector<nlohmann::json> entries;
  std::istringstream lines(read_whole(metrics));
  for (std::string line; std::getline(lines, line);) {
    entries.push_back(nlohmann::json::parse(line));
    for (const char* measured : {"seconds", "peak_bytes"}) entries.back().erase(measured);
  }
  return entries;
}

TEST_CASE("lm program: a run that was killed and goes on has each step once in its metrics") {
  const Run run;
  const std::string metrics = run.folder / "metrics";
  const std::string settings = run.small() + " --eval-every 7 --log-every 1 --checkpoint-every 5";
  const std::string files = " --checkpoint " + (run.folder / "run") + " --metrics " + metrics;
  const pid_t child = start(settings + " --steps 100000000" + files, run.folder / "output");
  for (int i = 0; i < 600 && lines_of(metrics) < 12; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  // As if it had gone on for a while after its last checkpoint.
  std::ofstream(metrics, std::ios::app) << "{\"event\":\"train\",\"step\":99999998}\n"
                                        << "{\"event\":\"train\",\"st";

  const int64_t done =
      load_safetensors(run.folder / "run/latest.safetensors").integer("optimizer.steps");
  const std::string few = settings + " --steps " + std::to_string(done + 4);
  CHECK(run.lm(few + files + " --resume").code == 0);
  CHECK(run.lm(few + " --checkpoint " + (run.folder / "whole") + " --metrics " +
               (run.folder / "other"))
            .code == 0);
  CHECK(entries_of(metrics) == entries_of(run.folder / "other"));
}

TEST_CASE("lm program: a signal ends it after a checkpoint, with exit code 130, and it can go on") {
  const Run run;
  const std::string checkpoint = run.folder / "run";
  const std::string metrics = run.folder / "metrics";
  const std::string output = run.folder / "output";
  const pid_t child =
      start(run.small() + " --steps 100000000 --eval-every 100000000 --log-every 1" +
                " --checkpoint " + checkpoint + " --metrics " + metrics,
            output);
  for (int i = 0; i < 600 && read_whole(metrics).empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  const int code = interrupt(child);
  CAPTURE(read_whole(output));
  CHECK(code == 130);
  CHECK(read_whole(output).find("--resume") != std::string::npos);

  // Wherever it was stopped, it goes on as if it had not been.
  const int64_t done =
      load_safetensors(checkpoint + "/latest.safetensors").integer("optimizer.steps");
  REQUIRE(done > 0);
  const std::string few = run.small() + " --eval-every 100000000 --log-every 1 --steps " +
                          std::to_string(done + 3) + " --checkpoint ";
  CHECK(run.lm(few + checkpoint + " --resume").code == 0);
  CHECK(run.lm(few + (run.folder / "whole")).code == 0);
  CHECK(same_bits(load_safetensors(checkpoint + "/latest.safetensors"),
                  load_safetensors((run.folder / "whole") + "/latest.safetensors")));
}

}  // namespace
}  // namespace sketchgrad::apps
