#include "sketchgrad/tests/rules/print_rules.cpp"
