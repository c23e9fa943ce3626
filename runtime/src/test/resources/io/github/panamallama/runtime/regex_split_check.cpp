// Splits random texts by every pre-tokenizer of lists.inc with the unicode.cpp that UNICODE names and prints a hash of each result.
// Arguments: seed, rounds.
#include UNICODE

#include <cstdio>
#include <cstdlib>
#include <random>

static const std::vector<std::vector<std::string>> lists = {
#include "lists.inc"
};

static const std::vector<std::string> parts = {"a", "b", "Z", "A", "s", "'s", "'t", "'re", "'LL", "'", "0", "1", "22", "333", "4444", " ", "  ",
    "   ", "\n", "\r\n", "\t", "\n\n", " \n ", "=", "==", "+", "$", "<", "^", "~", "|", "`", ".", ",", "!", "?", "-", "_", "(", "[", "]", "{",
    "}", "\\", "/", "é", "É", "ß", "中", "国", "あ", "ア", "한", "글", "ㄱ", "😀", "\u0301", "\u200d", "\u00a0", "\u3000", "\u2028", "،", "।", "٣", "Ⅷ",
    "ǅ", "ʰ", "…", "“", "”", "：", "〿", "αβ", "Ж", "ж", "\xff", "\xc3", "<sentinel:12>", "IMGIMGABZ", "م", "€", "∑", "\x01", "\x7f"};

int main(int argc, char ** argv) {
    std::mt19937 random(argc > 1 ? unsigned(strtoul(argv[1], nullptr, 10)) : 1u);
    const int rounds = argc > 2 ? atoi(argv[2]) : 100;
    for (int round = 0; round < rounds; round++) {
        const bool mixed = random() % 3 == 0;
        const size_t favourites[] = {random() % parts.size(), random() % parts.size(), random() % parts.size()};
        std::string text;
        for (int i = int(random() % 30); i >= 0; i--) {
            const std::string & part = parts[mixed || random() % 8 == 0 ? random() % parts.size() : favourites[random() % 3]];
            for (int n = random() % 8 == 0 ? 1 + int(random() % 20) : 1; n > 0; n--) {
                text += part;
            }
        }
        for (size_t list = 0; list < lists.size(); list++) {
            uint64_t hash = 1469598103934665603ull;
            size_t words = 0;
            for (const auto & word : unicode_regex_split(text, lists[list], true)) {
                if (word.empty()) {
                    continue;
                }
                words++;
                for (const char c : word + '\n') {
                    hash = (hash ^ uint8_t(c)) * 1099511628211ull;
                }
            }
            printf("round %d pattern %zu: %zu words, %llx\n", round, list, words, (unsigned long long) hash);
        }
    }
    return 0;
}
