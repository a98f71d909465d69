// The built program lm, from outside.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

const std::string kProgram = std::string(SKETCHGRAD_BINARY_DIR) + "/apps/lm";

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
  CAPTURE(result.output);
  CHECK(result.code == code);
  CHECK(result.output.find("lm: error: ") != std::string::npos);
  CHECK(result.output.find(part) != std::string::npos);
  const size_t begin = result.output.find("lm: error: ");
  CHECK(std::count(result.output.begin() + static_cast<std::ptrdiff_t>(begin), result.output.end(),
                   '\n') == 1);
}

TEST_CASE("lm program: help") {
  const Run run;
  const CommandResult all = run.lm("--help");
  CHECK(all.code == 0);
  CHECK(all.output.find("generate") != std::string::npos);
  const CommandResult train = run.lm("train --help");
  CHECK(train.code == 0);
  for (const char* flag :
       {"--train",   "--valid",   "--test",          "--vocab-min",  "--embedding-dim",
        "--hidden",  "--layers",  "--projection",    "--dropout",    "--tie",
        "--bptt",    "--batch",   "--epochs",        "--steps",      "--optimizer",
        "--moment1", "--moment2", "--learning-rate", "--schedule",   "--clip",
        "--seed",    "--threads", "--device",        "--checkpoint", "--resume",
        "--report",  "--metrics", "--sketch-tables", "--config",     "--cache"}) {
    CAPTURE(flag);
    CHECK(train.output.find(flag) != std::string::npos);
  }
}

TEST_CASE("lm program: wrong usage is one line and exit code 2") {
  const Run run;
  check_error(run.lm(""), 2, "subcommand");
  check_error(run.lm("fly"), 2, "");
  check_error(run.lm("train"), 2, "--train");
  check_error(run.lm(run.small() + " --bogus 1"), 2, "--bogus");
  check_error(run.lm(run.small() + " --batch 0"), 2, "--batch");
  check_error(run.lm(run.small() + " --batch 100000"), 2, "too few");
  check_error(run.lm(run.small() + " --tie --projection 3"), 2, "--tie");
  check_error(run.lm(run.small() + " --moment2 sketch:7"), 2, "sketch:7");
  check_error(run.lm(run.small() + " --schedule sometimes"), 2, "sometimes");
  check_error(run.lm(run.small() + " --config nowhere"), 2, "wikitext2");
  check_error(run.lm(run.small() + " --device tpu"), 2, "tpu");
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
  check_error(run.lm(run.small() + " --device cuda"), 1, "[device]");
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
  const CommandResult text =
      run.lm("generate --checkpoint " + checkpoint + " --prompt 'w1 w2' --length 5");
  CHECK(text.code == 0);
  CHECK(text.output.starts_with("w1 w2"));
  check_error(run.lm(run.small() + " --steps 5 --checkpoint " + checkpoint), 2, "--resume");
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

// Starts the program without a shell between, so that signals reach it.
pid_t start(const std::string& arguments, const std::string& output) {
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string command = "exec " + kProgram + " " + arguments + " >" + output + " 2>&1";
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  return child;
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
  ::kill(child, SIGINT);
  int status = 0;
  ::waitpid(child, &status, 0);
  CAPTURE(read_whole(output));
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 130);
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
