#include "sketchgrad/apps/common/options.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/config_file.h"
#include "sketchgrad/apps/lm/settings.h"
#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

// As `lm train` reads its arguments.
lm::TrainSettings parsed(std::vector<std::string> arguments) {
  lm::TrainSettings settings;
  CLI::App command("train", "train");
  lm::add_options(command, settings);
  arguments.insert(arguments.end(), {"--train=a", "--valid=b"});
  parse(command, expand_config(arguments, command, "lm"));
  lm::complete(settings);
  return settings;
}

TEST_CASE("options: each rule has its defaults") {
  const lm::TrainSettings adam = parsed({});
  CHECK(*adam.optimizer.learning_rate == 0.002);
  CHECK(*adam.optimizer.beta1 == 0.9);
  CHECK(*adam.optimizer.beta2 == 0.999);
  CHECK_FALSE(adam.optimizer.momentum);
  CHECK(*parsed({"--optimizer=rmsprop"}).optimizer.beta2 == 0.99);
  CHECK(*parsed({"--optimizer=adagrad"}).optimizer.epsilon == 1e-10);
  CHECK(*parsed({"--optimizer=momentum"}).optimizer.momentum == 0.9);
}

TEST_CASE("options: help and messages name every rule, and its defaults") {
  lm::TrainSettings settings;
  CLI::App command("train", "train");
  lm::add_options(command, settings);
  const std::string help = command.help();
  CHECK(help.find("[rmsprop 0.99, adam 0.999]") != std::string::npos);
  CHECK(help.find("[adagrad 1e-10, rmsprop 1e-08, adam 1e-08, sm3 0]") != std::string::npos);
  const std::string names = "sgd, momentum, adagrad, rmsprop, adam, sm3";
  CHECK(help.find(names) != std::string::npos);
  CHECK_THROWS_WITH_AS(parsed({"--optimizer=adamant"}), doctest::Contains(names.c_str()),
                       InvalidArgument);
}

TEST_CASE("options: adam without a first moment has beta1 = 0") {
  const lm::TrainSettings settings = parsed({"--moment1=none", "--moment2=sketch:0.2"});
  CHECK(*settings.optimizer.beta1 == 0.0);
  CHECK(to_json(settings)["moment1"] == "none");
  CHECK(to_json(settings)["moment2"] == "sketch:0.2");
  CHECK(*parsed({"--moment1=none", "--beta1=0"}).optimizer.beta1 == 0.0);
  CHECK_THROWS_WITH_AS(parsed({"--moment1=none", "--beta1=0.9"}), doctest::Contains("--beta1"),
                       InvalidArgument);
}

TEST_CASE("options: sm3 has bounds and, with momentum, a first moment") {
  const lm::TrainSettings plain = parsed({"--optimizer=sm3"});
  CHECK(to_json(plain)["moment1"] == "none");
  CHECK(to_json(plain)["moment2"] == "sm3");
  const lm::TrainSettings given =
      parsed({"--optimizer=sm3", "--momentum=0.9", "--moment1=bf16", "--moment2=sm3:1"});
  CHECK(to_json(given)["moment1"] == "bf16");
  CHECK(to_json(given)["moment2"] == "sm3:1");
  CHECK(to_json(parsed({"--moment2=int8"}))["moment2"] == "int8");
}

TEST_CASE("options: what does not go together is refused") {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"--optimizer=adamant"},
           {"--optimizer=sgd", "--moment1=sketch:0.2"},
           {"--optimizer=momentum", "--moment2=sketch:0.2"},
           {"--optimizer=momentum", "--moment1=none"},
           {"--optimizer-memory=1MB", "--moment1=sketch:0.2"},
           {"--optimizer-memory=1MB", "--moment2=rank1"},
           {"--optimizer-memory=1M"},
           {"--optimizer=momentum", "--momentum=1"},
           {"--optimizer=sm3", "--moment1=bf16"},
           {"--optimizer=sm3", "--momentum=0.5", "--moment1=none"},
           {"--moment2=sm3:3"},
           {"--optimizer=adagrad", "--moment2=none"},
           {"--optimizer=sgd", "--momentum=0.9"},
           {"--optimizer=sgd", "--weight-decay=0.1"},
           {"--nesterov"},
           {"--beta1=1"},
           {"--moment1=sketch"},
           {"--moment2=sketch:0.2,reading=aloud"},
           {"--dropout=1"},
           {"--samples=10"},
           {"--softmax=full", "--cutoffs=10"},
           {"--softmax=full", "--lsh-bits=4"},
           {"--softmax=lsh", "--sampler=uniform"},
           {"--softmax=lsh", "--division=2"},
           {"--softmax=adaptive", "--samples=10"},
           {"--softmax=adaptive", "--no-correct-target"},
           {"--softmax=sampled", "--lsh-tail=3"},
           {"--softmax=sampled", "--cutoffs=10"},
           {"--checkpoint-every=5"},
           {"--resume"}}) {
    CAPTURE(arguments[0]);
    CHECK_THROWS_AS(parsed(arguments), InvalidArgument);
  }
  for (const char* argument : {"--batch=0", "--hidden=-3", "--hidden=99999999999", "--clip=-1",
                               "--threads=-1", "--bogus=1", "--sketch-tables=none", "--seed=x"}) {
    CAPTURE(argument);
    CHECK_THROWS_AS(parsed({argument}), CLI::ParseError);
  }
}

TEST_CASE("options: numbers are decimal, finite and as large as they can be") {
  for (const char* argument : {"--batch=010",
                               "--batch=0x10",
                               "--batch=+5",
                               "--batch=1e2",
                               "--batch=5 ",
                               "--seed=-5",
                               "--seed=007",
                               "--seed=18446744073709551616",
                               "--steps=9223372036854775808",
                               "--clip=nan",
                               "--clip=inf",
                               "--clip=-0.5",
                               "--learning-rate=nan",
                               "--learning-rate=1e999",
                               "--learning-rate=0x1p3",
                               "--beta1=nan",
                               "--epsilon=nan",
                               "--weight-decay=inf",
                               "--dropout=nan",
                               "--init-range=nan",
                               "--unigram-power=nan",
                               "--division=nan",
                               "--cutoffs=5,010",
                               "--threads=02",
                               "--vocab-min=-1"}) {
    CAPTURE(argument);
    CHECK_THROWS_AS(parsed({argument}), CLI::ParseError);
  }
  CHECK_THROWS_WITH_AS(parsed({"--learning-rate=0"}),
                       "--learning-rate: 0 must be a finite number above 0", CLI::ParseError);
  CHECK_THROWS_WITH_AS(parsed({"--steps=0"}), "--steps: 0 must be a whole number of at least 1",
                       CLI::ParseError);
  CHECK_THROWS_WITH_AS(parsed({"--batch=0"}),
                       "--batch: 0 must be a whole number from 1 to 16777216", CLI::ParseError);
  CHECK(parsed({"--seed=18446744073709551615"}).run.seed == 18446744073709551615u);
  CHECK(parsed({"--seed=0"}).run.seed == 0);
  CHECK(*parsed({"--learning-rate=2.5e-3"}).optimizer.learning_rate == 2.5e-3);
  CHECK(parsed({"--clip=.5"}).run.clip == 0.5);
}

TEST_CASE("options: each softmax has settings of its own") {
  CHECK(parsed({"--softmax=sampled", "--samples=10", "--sampler=unigram", "--unigram-power=1",
                "--replacement", "--no-correct-target"})
            .model.softmax.samples == 10);
  CHECK(parsed({"--softmax=lsh", "--samples=10", "--lsh-tail=0"}).model.softmax.lsh_tail == 0);
  CHECK(parsed({"--softmax=adaptive", "--cutoffs=10,20", "--division=2"}).model.softmax.cutoffs ==
        std::vector<int64_t>{10, 20});
  CHECK_THROWS_WITH_AS(parsed({"--samples=10"}), "--samples: --softmax full has no such setting",
                       InvalidArgument);
}

TEST_CASE("options: the last of several values counts") {
  CHECK(parsed({"--batch=3", "--batch=4"}).batch == 4);
  CHECK_FALSE(parsed({"--tie", "--no-tie"}).model.tie);
}

TEST_CASE("config: settings from files, flags win") {
  const TemporaryFolder folder;
  const std::string file = folder.file("a.toml",
                                       "# a comment\nhidden = 12\nbatch = 7\ntie = true\n"
                                       "moment2 = \"sketch:0.5,depth=2\"\n");
  const lm::TrainSettings settings = parsed({"--batch", "5", "--config", file});
  CHECK(settings.model.hidden == 12);
  CHECK(settings.batch == 5);
  CHECK(settings.model.tie);
  CHECK(settings.optimizer.moment2 == "sketch:0.5,depth=2");
  CHECK_FALSE(parsed({"--no-tie", "--config=" + file}).model.tie);
  const std::string second = folder.file("b.toml", "hidden = 13\n");
  CHECK(parsed({"--config", file, "--config", second}).model.hidden == 13);
}

TEST_CASE("options: telemetry is off unless rows are asked for") {
  CHECK(parsed({}).run.telemetry_rows == 0);
  CHECK(parsed({"--telemetry-rows=256"}).run.telemetry_rows == 256);
  for (const char* rows : {"-1", "16777217", "many"}) {
    CHECK_THROWS_AS(parsed({std::string("--telemetry-rows=") + rows}), CLI::ParseError);
  }
}

TEST_CASE("options: several training texts, by one flag or several") {
  const auto train = [](const std::vector<std::string>& arguments) {
    lm::TrainSettings settings;
    CLI::App command("train", "train");
    lm::add_options(command, settings);
    parse(command, expand_config(arguments, command, "lm"));
    return settings.train;
  };
  using Texts = std::vector<std::string>;
  CHECK(train({"--train", "a", "b", "--valid", "v", "--train=c"}) == Texts{"a", "b", "c"});
  const TemporaryFolder folder;
  const std::string two = "--config=" + folder.file("a", "valid = \"v\"\ntrain = [\"a\", \"b\"]\n");
  CHECK(train({two, "--batch", "4"}) == Texts{"a", "b"});
  // Whoever wins replaces all of them.
  CHECK(train({two, "--config", folder.file("b", "train = \"c\"\n")}) == Texts{"c"});
  CHECK(train({"--train", "d", two}) == Texts{"d"});
  CHECK(train({"--train=d", two, "--train=e"}) == Texts{"d", "e"});
}

TEST_CASE("config: mistakes in files are told") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(parsed({"--config=" + folder.file("a", "# sizes\nhiden = 12\n")}),
                       doctest::Contains("a:2: 'hiden'"), DataError);
  CHECK_THROWS_AS(parsed({"--config=" + folder.file("b", "[model]\nhidden = 12\n")}), DataError);
  CHECK_THROWS_AS(parsed({"--config=" + folder.file("c", "moment2 = [\"a\", \"b\"]\n")}),
                  DataError);
  // Neither would do anything.
  CHECK_THROWS_WITH_AS(
      parsed({"--config=" + folder.file("e", "hidden = 12\n\n  config = \"b\"\n")}),
      doctest::Contains("e:3: 'config'"), DataError);
  for (const char* help : {"help\n", "help = true\n"}) {
    CAPTURE(help);
    CHECK_THROWS_WITH_AS(parsed({"--config=" + folder.file("f", help)}),
                         doctest::Contains("f:1: 'help'"), DataError);
  }
  CHECK_THROWS_AS(parsed({"--config=" + folder.file("d", "hidden = many\n")}), CLI::ParseError);
  CHECK_THROWS_AS(parsed({"--config=" + (folder / "missing.toml")}), InvalidArgument);
  for (const char* nothing : {"metrics =\n", "metrics = \"\"\n", "train = [\"a\", \"\"]\n"}) {
    CAPTURE(nothing);
    CHECK_THROWS_WITH_AS(
        parsed({"--config=" + folder.file("g", "# files\n" + std::string(nothing))}),
        doctest::Contains("g:2: '"), DataError);
  }
  CHECK_THROWS_WITH_AS(parsed({"--metrics=", "--tie"}),
                       doctest::Contains("--metrics=: there is no"), InvalidArgument);
}

TEST_CASE("config: a value that is refused is told with file and line, unless a flag wins") {
  const TemporaryFolder folder;
  const auto read = [](const std::vector<std::string>& arguments) {
    lm::TrainSettings settings;
    CLI::App app("", "lm");
    CLI::App& train = *app.add_subcommand("train", "");
    lm::add_options(train, settings);
    add_config_option(train, "lm");
    std::vector<std::string> all = {"train", "--train=a", "--valid=b"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    parse_with_config(app, all, train, "lm");
    return settings;
  };
  const std::string file = folder.file("a.toml", "batch = 7\neval-batch = 0\nhidden = 12\n");
  CHECK_THROWS_WITH_AS(read({"--config", file}), doctest::Contains("a.toml:2: --eval-batch: "),
                       DataError);
  CHECK(read({"--config", file, "--eval-batch", "3"}).model.hidden == 12);
  CHECK_THROWS_AS(read({"--config", file, "--eval-batch", "0"}), CLI::ParseError);
  for (const char* line : {"hidden = many\n", "tie = perhaps\n", "sketch-tables = \"none\"\n"}) {
    CAPTURE(line);
    CHECK_THROWS_WITH_AS(read({"--config", folder.file("b.toml", line)}),
                         doctest::Contains("b.toml:1: "), DataError);
  }
}

TEST_CASE("config: the files that come along can be read") {
  const std::string configs = std::string(SKETCHGRAD_SOURCE_DIR) + "/apps/lm/configs";
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(configs)) {
    CAPTURE(entry.path().string());
    const std::string name = entry.path().stem().string();
    std::vector<std::string> arguments = {"--config=" + entry.path().string()};
    if (name == "cs-m") arguments.push_back("--optimizer=momentum");
    CHECK_NOTHROW(parsed(arguments));
    ++count;
  }
  CHECK(count >= 6);
  const lm::TrainSettings settings = parsed(
      {"--config=" + configs + "/wikitext2-adam.toml", "--config=" + configs + "/cs-mv.toml"});
  CHECK(settings.model.hidden == 672);
  CHECK(settings.optimizer.moment1 == "sketch:0.2");
  CHECK(settings.sketch_tables == "embedding");
}

}  // namespace
}  // namespace sketchgrad::apps
