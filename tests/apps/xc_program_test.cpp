// The built program xc, from outside.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "sketchgrad/tests/apps/program_testing.h"

namespace sketchgrad::apps {
namespace {

void check_error(const CommandResult& result, int code, const std::string& part) {
  check_error_of("xc", result, code, part);
}

bool has(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

// A text whose rows say their class.
std::string rows_of_text(int rows, int classes) {
  std::string text;
  for (int i = 0; i < rows; ++i) {
    const std::string label = std::to_string(7 * i % classes);
    text +=
        "word" + label + " also" + label + " noise" + std::to_string(i % 5) + "\tc" + label + "\n";
  }
  return text;
}

struct Run {
  TemporaryFolder folder;

  CommandResult xc(const std::string& arguments) const {
    return run_command(program_path("xc") + " " + arguments);
  }
  std::string path(const std::string& name) const { return folder / name; }
  void prepare() const {
    folder.file("train.tsv", rows_of_text(300, 20));
    folder.file("test.tsv", rows_of_text(40, 20));
    CHECK(xc("prepare --input " + path("train.tsv") + " --output " + path("train.bin") +
             " --hash-dim 512")
              .code == 0);
    CHECK(xc("prepare --input " + path("test.tsv") + " --output " + path("test.bin") + " --like " +
             path("train.bin"))
              .code == 0);
  }
  std::string small() const {
    return "train --data " + path("train.bin") + " --test " + path("test.bin") +
           " --hidden 16 --buckets 12 --repetitions 2 --batch 30 --learning-rate 0.05";
  }
  // Waits until there is something in the file.
  static void wait_for(const std::string& file) {
    for (int i = 0; i < 600 && read_whole(file).empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
};

TEST_CASE("xc program: help") {
  const Run run;
  const CommandResult all = run.xc("--help");
  CHECK(all.code == 0);
  for (const char* command : {"prepare", "train", "eval", "predict", "merge"}) {
    CHECK(has(all.output, command));
  }
  const auto check_flags = [&](const std::string& command, const std::vector<std::string>& flags) {
    const CommandResult help = run.xc(command + " --help");
    CHECK(help.code == 0);
    for (const std::string& flag : flags) CHECK(has(help.output, flag));
  };
  check_flags("prepare",
              {"--input", "--output", "--like", "--malformed", "--format", "--hash-dim"});
  check_flags("train", {"--data",          "--test",          "--model",
                        "--hidden",        "--repetitions",   "--first-repetition",
                        "--train-order",   "--buckets",       "--meta-loss",
                        "--shared-hidden", "--computed-map",  "--batch",
                        "--memory-budget", "--epochs",        "--steps",
                        "--valid-limit",   "--aggregation",   "--best-buckets",
                        "--eval-batch",    "--eval-limit",    "--sampled-ranks",
                        "--propensity-a",  "--sketch-tables", "--plan",
                        "--moment1",       "--moment2",       "--samples",
                        "--lsh-bits",      "--clip",          "--checkpoint",
                        "--resume",        "--report",        "--metrics",
                        "--threads",       "--device",        "--seed",
                        "--config"});
  check_flags("eval", {"--checkpoint", "--data", "--report", "--aggregation", "--sampled-ranks"});
  check_flags("predict", {"--checkpoint", "--data", "--queries", "--top", "--best-buckets"});
  check_flags("merge", {"models", "--output"});
}

TEST_CASE("xc program: wrong usage is one line and exit code 2") {
  const Run run;
  run.prepare();
  check_error(run.xc(""), 2, "subcommand");
  check_error(run.xc("fly"), 2, "there is no command 'fly'; there are prepare, train");
  check_error(run.xc("prepare"), 2, "--input");
  check_error(run.xc("train"), 2, "--data");
  check_error(run.xc("eval"), 2, "--checkpoint");
  check_error(run.xc("predict --bogus"), 2, "");
  check_error(run.xc("merge --output x"), 2, "models");
  check_error(run.xc(run.small() + " --bogus 1"), 2, "--bogus");
  check_error(run.xc(run.small() + " --batch 0"), 2, "--batch");
  check_error(run.xc(run.small() + " --batch auto"), 2, "--memory-budget");
  check_error(run.xc(run.small() + " --batch auto --memory-budget 3GG"), 2, "3GG");
  check_error(run.xc(run.small() + " --batch auto --memory-budget 10KB"), 2, "batches of a row");
  check_error(run.xc(run.small() + " --model magic"), 2, "magic");
  const std::string sets =
      "train --data " + run.path("train.bin") + " --test " + run.path("test.bin");
  for (const std::string flag :
       {"--repetitions 2", "--first-repetition 1", "--buckets 9", "--meta-loss sigmoid",
        "--shared-hidden", "--stored-map", "--aggregation mean", "--lsh-bits 4"}) {
    check_error(run.xc(sets + " --model full " + flag), 2,
                flag.substr(0, flag.find(' ')) + ": --model full has no such setting");
  }
  check_error(run.xc(sets + " --samples 9"), 2, "--samples: --model mach has no such setting");
  check_error(run.xc(sets + " --memory-budget 1GB"), 2, "--memory-budget is for --batch auto");
  check_error(run.xc(sets + " --checkpoint-every 3"), 2, "--checkpoint-every needs --checkpoint");
  check_error(run.xc(run.small() + " --moment2 sketch:7"), 2, "sketch:7");
  check_error(run.xc(run.small() + " --train-order one-by-one"), 2, "--checkpoint");
  check_error(run.xc(run.small() + " --resume"), 2, "--checkpoint");
  check_error(run.xc(run.small() + " --config nowhere"), 2, "nowhere");
}

TEST_CASE("xc program: what cannot be done is one line and exit code 1") {
  const Run run;
  run.prepare();
  const std::string bad = run.folder.file("bad.txt", "2 6 4\n1 0:1\n9 1:1\n");
  check_error(run.xc("prepare --format xc --input " + bad + " --output " + run.path("bad.bin")), 1,
              bad + ":3");
  check_error(run.xc("prepare --input /nowhere --output " + run.path("bad.bin")), 1, "/nowhere");
  check_error(run.xc("train --data /nowhere --test /nowhere"), 1, "/nowhere");
  check_error(run.xc("train --data " + run.path("train.tsv") + " --test " + run.path("test.bin")),
              1, "train.tsv");
  check_error(run.xc(run.small() + " --steps 1 --report /nowhere/report.json"), 1, "/nowhere");
  const std::string broken = run.folder.file("broken.safetensors", "nothing of the kind");
  for (const std::string command : {"eval", "predict"}) {
    check_error(run.xc(command + " --checkpoint " + broken + " --data " + run.path("test.bin")), 1,
                "broken");
  }
  check_error(run.xc("merge " + broken + " --output " + run.path("merged")), 1, "broken");
  CHECK(run.xc("prepare --input " + run.path("test.tsv") + " --output " + run.path("other.bin"))
            .code == 0);
  check_error(run.xc("train --data " + run.path("train.bin") + " --test " + run.path("other.bin")),
              2, "--test: " + run.path("other.bin") + " has other classes");
  check_error(run.xc(run.small() + " --valid " + run.path("other.bin")), 2,
              "--valid: " + run.path("other.bin") + " has other classes");
  check_error(run.xc("train --model lsh --data " + run.path("train.bin") + " --test " +
                     run.path("test.bin")),
              2, "--lsh-tail: 4096 different classes");
}

TEST_CASE("xc and lm: a model of the other program is named so") {
  const Run run;
  run.prepare();
  REQUIRE(run.xc(run.small() + " --steps 1 --checkpoint " + run.path("xc")).code == 0);
  const std::string text = run.folder.file("text", generated_text(60, 40));
  const std::string lm = program_path("lm") + " ";
  const std::string trained = "train --cache none --hidden 8 --embedding-dim 8 --steps 1 --train " +
                              text + " --valid " + text + " --checkpoint ";
  REQUIRE(run_command(lm + trained + run.path("lm")).code == 0);
  for (const std::string command : {"eval", "predict"}) {
    check_error(
        run.xc(command + " --checkpoint " + run.path("lm") + " --data " + run.path("test.bin")), 1,
        "lm/latest.safetensors: is no model of xc");
  }
  check_error(run.xc("merge " + run.path("lm") + " --output " + run.path("merged")), 1,
              "is no model of xc");
  check_error(run.xc(run.small() + " --steps 2 --resume --checkpoint " + run.path("lm")), 1,
              "is no model of xc");
  for (const std::string& command :
       {"eval --data " + text + " --checkpoint " + run.path("xc"),
        "generate --checkpoint " + run.path("xc"), trained + run.path("xc") + " --resume"}) {
    check_error_of("lm", run_command(lm + command), 1, "xc/latest.safetensors: is no model of lm");
  }
}

TEST_CASE("xc program: what is read is not written over, nor is one file written twice") {
  const Run run;
  run.prepare();
  const std::string train = run.path("train.bin"), test = run.path("test.bin");
  const std::string train_bytes = read_whole(train), test_bytes = read_whole(test);
  check_error(
      run.xc("prepare --input " + run.path("test.tsv") + " --like " + train + " --output " + train),
      2, "--output: " + train + " is an input, that of --like");
  const std::string few = run.small() + " --steps 2";
  check_error(run.xc(few + " --metrics " + train), 2, "--metrics: " + train + " is an input");
  check_error(run.xc(few + " --report " + test), 2, "--report: " + test + " is an input");
  const std::string both = run.path("both");
  check_error(run.xc(few + " --report " + both + " --metrics " + both), 2, "--metrics: " + both);
  const std::string folder = run.path("apart");
  check_error(run.xc(few + " --train-order one-by-one --checkpoint " + folder + " --report " +
                     folder + "/model.safetensors"),
              2, "model.safetensors is written by --report");
  REQUIRE(run.xc(few + " --checkpoint " + run.path("run")).code == 0);
  const std::string latest = run.path("run/latest.safetensors");
  const std::string latest_bytes = read_whole(latest);
  check_error(
      run.xc("eval --checkpoint " + run.path("run") + " --data " + test + " --report " + latest), 2,
      "--report: " + latest + " is an input");
  check_error(
      run.xc("eval --checkpoint " + run.path("run") + " --data " + test + " --report " + test), 2,
      "that of --data");
  check_error(run.xc("merge " + run.path("run") + " --output " + latest), 2, "is an input");
  CHECK(read_whole(latest) == latest_bytes);
  CHECK(read_whole(train) == train_bytes);
  CHECK(read_whole(test) == test_bytes);
}

TEST_CASE("xc program: prepare, train, eval, predict and merge, as one would") {
  const Run run;
  run.prepare();
  const std::string report = run.path("report.json");
  const CommandResult planned = run.xc(run.small() + " --plan");
  CHECK(planned.code == 0);
  CHECK(has(planned.output, "one by one"));

  const CommandResult trained = run.xc(run.small() + " --epochs 10 --checkpoint " +
                                       run.path("whole") + " --report " + report);
  CAPTURE(trained.output);
  CHECK(trained.code == 0);
  CHECK(has(trained.output, "precision_at_1"));
  CHECK(has(trained.output, "optimizer_state"));
  const auto scores = nlohmann::json::parse(read_whole(report));
  // 20 classes, whose words stand in no other class: a guess is right in one of 20 rows.
  CHECK(scores["precision_at_1"].get<double>() > 0.5);
  check_error(run.xc(run.small() + " --checkpoint " + run.path("whole")), 2, "--resume");

  for (const std::string first : {"0", "1"}) {
    CHECK(run.xc(run.small() + " --repetitions 1 --first-repetition " + first +
                 " --epochs 10 --checkpoint " + run.path("r" + first))
              .code == 0);
  }
  const std::string merged = run.path("merged.safetensors");
  const CommandResult joined =
      run.xc("merge " + run.path("r1") + " " + run.path("r0") + " --output " + merged);
  CHECK(joined.code == 0);
  CHECK(has(joined.output, "repetitions 0, 1"));
  CHECK(run.xc(run.small() + " --train-order one-by-one --epochs 10 --checkpoint " +
               run.path("apart"))
            .code == 0);
  for (const std::string& model : {run.path("whole"), merged, run.path("apart")}) {
    const CommandResult scored = run.xc("eval --checkpoint " + model + " --data " +
                                        run.path("test.bin") + " --report " + report);
    CHECK(scored.code == 0);
    CHECK(nlohmann::json::parse(read_whole(report))["precision_at_1"] == scores["precision_at_1"]);
  }

  const std::string predict = "predict --checkpoint " + merged + " --data " + run.path("test.bin");
  const CommandResult answered = run_command("printf 'word3 also3\\n\\nword4' | " +
                                             program_path("xc") + " " + predict + " --top 2");
  CAPTURE(answered.output);
  CHECK(answered.code == 0);
  CHECK(has(answered.output, "{\"classes\":[\"c3\","));
  CHECK(has(answered.output, "\"query\":\"word4\""));
  CHECK(has(answered.output, "xc: 3 queries; an answer took "));
  CHECK(has(answered.output, "99th percentile"));
  const std::string queries = run.folder.file("queries", "word6 also6\n");
  CHECK(has(run.xc(predict + " --queries " + queries).output, "[\"c6\","));
  check_error(run.xc(predict + " --queries /nowhere"), 1, "/nowhere");
  check_error(run.xc(predict + " --queries " + run.path("")), 1, "is a directory");
  check_error(run.xc(predict + " < " + run.path("")), 1,
              "[predict] the queries cannot be read: Is a directory");
  check_error(run_command("(printf 'word3\\n' | " + program_path("xc") + " " + predict +
                          " 2>&1 >/dev/full)"),
              1, "[predict] an answer cannot be written");
  check_error(run.xc("merge " + merged + " " + run.path("r0") + " --output " + run.path("again")),
              2, "repetition 0");
}

TEST_CASE("xc program: a signal ends training after a checkpoint, and it can go on") {
  const Run run;
  run.prepare();
  const std::string settings = run.small() + " --eval-every 100000000 --log-every 1";
  for (const std::string order : {"together", "one-by-one"}) {
    CAPTURE(order);
    const std::string metrics = run.path(order + " metrics"), output = run.path(order + " output");
    const auto files = [&](const std::string& folder) {
      return " --train-order " + order + " --checkpoint " + run.path(order + folder);
    };
    const bool apart = order == "one-by-one";
    const pid_t child = start_program(
        "xc", settings + " --steps 100000000" + files("run") + " --metrics '" + metrics + "'",
        "'" + output + "'");
    Run::wait_for(apart ? metrics + ".r0" : metrics);
    const int code = interrupt(child);
    CAPTURE(read_whole(output));
    CHECK(code == 130);
    CHECK(has(read_whole(output), "--resume"));

    const auto latest = [&](const std::string& folder) {
      return load_safetensors(run.path(order + folder) + (apart ? "/r0" : "") +
                              "/latest.safetensors");
    };
    const int64_t done = latest("run").integer("optimizer.steps");
    REQUIRE(done > 0);
    const std::string few = settings + " --steps " + std::to_string(done + 3);
    CHECK(run.xc(few + files("run") + " --resume").code == 0);
    CHECK(run.xc(few + files("whole")).code == 0);
    CHECK(same_bits(latest("run"), latest("whole")));
    if (!apart) continue;
    CHECK(same_bits(load_safetensors(run.path(order + "run") + "/model.safetensors"),
                    load_safetensors(run.path(order + "whole") + "/model.safetensors")));
  }
}

TEST_CASE("xc program: a signal ends predict while it waits for a query") {
  const Run run;
  run.prepare();
  CHECK(run.xc(run.small() + " --steps 2 --checkpoint " + run.path("model")).code == 0);
  const std::string queries = run.path("queries"), output = run.path("output");
  REQUIRE(::mkfifo(queries.c_str(), 0600) == 0);
  const std::string predict =
      "predict --checkpoint " + run.path("model") + " --data " + run.path("test.bin");
  for (const std::string from : {" --queries ", " < "}) {
    for (const int signal : {SIGTERM, SIGINT}) {
      CAPTURE(from);
      CAPTURE(signal);
      run.folder.file("output", "");
      const pid_t child = start_program("xc", predict + from + queries, output);
      // The second line has no end yet.
      std::ofstream pipe(queries);
      pipe << "word3 also3\nword4" << std::flush;
      Run::wait_for(output);
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      const int code = exit_code_after(child, signal);
      const std::string printed = read_whole(output);
      CHECK(code == 130);
      CHECK(has(printed, "\"query\":\"word3 also3\""));
      CHECK(has(printed, "xc: 1 queries; an answer took "));
      CHECK(printed.find("word4") == std::string::npos);
      CHECK(has(printed, "not all was answered"));
    }
  }
}

}  // namespace
}  // namespace sketchgrad::apps
