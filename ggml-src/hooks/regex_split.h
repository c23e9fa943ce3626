// Splits text by a pre-tokenizer's regular expression in linear time and constant native stack.
//
// Upstream splits through std::regex, whose matcher recurses once or more per character (a run of 4,000 times the same character
// ends a 1 MB stack), tries some patterns at every character of a run (quadratic), and compiles the pattern anew on every call.
// This matcher takes the syntax that upstream's patterns use, gives the matches that std::regex gives in its ECMAScript mode
// (leftmost; alternatives and greedy repetitions in order), keeps its backtracking on the heap, and remembers which choices have
// failed at which character: without back-references a choice that failed once fails always, so each is tried once. That bounds
// the whole split by pattern size times text length. A pattern outside the syntax throws, it never reaches std::regex.
//
// Depends on the standard library alone; patches/regex-split.patch calls it from unicode.cpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pl {

// A set of code units as sorted ranges, with a bitmap for the first 256.
struct unit_set {
    std::vector<std::pair<uint32_t, uint32_t>> ranges;
    uint64_t low[4] = {};

    void add(uint32_t first, uint32_t last) { ranges.emplace_back(first, last); }

    void add_all(const unit_set & other) { ranges.insert(ranges.end(), other.ranges.begin(), other.ranges.end()); }

    void close(bool negated) {
        std::sort(ranges.begin(), ranges.end());
        std::vector<std::pair<uint32_t, uint32_t>> merged;
        for (const auto & range : ranges) {
            if (!merged.empty() && range.first <= merged.back().second) {
                merged.back().second = std::max(merged.back().second, range.second);
            } else {
                merged.push_back(range);
            }
        }
        if (negated) {
            std::vector<std::pair<uint32_t, uint32_t>> gaps;
            uint32_t next = 0;
            bool open = true;
            for (const auto & range : merged) {
                if (range.first > next) {
                    gaps.emplace_back(next, range.first - 1);
                }
                open = range.second != UINT32_MAX;
                next = range.second + 1;
            }
            if (open) {
                gaps.emplace_back(next, UINT32_MAX);
            }
            merged = std::move(gaps);
        }
        ranges = std::move(merged);
        for (const auto & range : ranges) {
            for (uint32_t u = range.first; u < 256 && u <= range.second; u++) {
                low[u >> 6] |= uint64_t(1) << (u & 63);
            }
        }
    }

    bool contains(uint32_t unit) const {
        if (unit < 256) {
            return (low[unit >> 6] >> (unit & 63)) & 1;
        }
        auto it = std::upper_bound(ranges.begin(), ranges.end(), unit,
                [](uint32_t u, const std::pair<uint32_t, uint32_t> & range) { return u < range.first; });
        return it != ranges.begin() && unit <= std::prev(it)->second;
    }
};

// A pattern as instructions. A choice has a number; the matcher's memory has one bit per choice and character.
struct regex_program {
    enum op_t : uint8_t { UNIT, SPLIT, JUMP, LOOK, END, ACCEPT };
    struct inst {
        op_t op;
        bool negative;  // LOOK
        int32_t x;      // UNIT: set; SPLIT: preferred; JUMP: target; LOOK: where to go on
        int32_t y;      // SPLIT: alternative
        int32_t choice; // SPLIT
    };

    std::vector<inst> code;
    std::vector<unit_set> sets;
    int32_t choices = 0;
};

template <typename CharT>
class regex_compiler {
public:
    static regex_program compile(const std::basic_string<CharT> & pattern) {
        regex_compiler c(pattern);
        c.alternatives();
        if (c.pos != pattern.size()) {
            c.fail("unmatched )");
        }
        c.emit({regex_program::ACCEPT, false, 0, 0, 0});
        for (auto & inst : c.program.code) {
            if (inst.op == regex_program::SPLIT) {
                inst.choice = c.program.choices++;
            }
        }
        return std::move(c.program);
    }

    static uint32_t unit(CharT c) { return static_cast<uint32_t>(static_cast<typename std::make_unsigned<CharT>::type>(c)); }

private:
    explicit regex_compiler(const std::basic_string<CharT> & pattern) : pattern(pattern) {}

    const std::basic_string<CharT> & pattern;
    size_t pos = 0;
    regex_program program;

    [[noreturn]] void fail(const char * what) const {
        throw std::runtime_error(std::string("regex_split: ") + what + " at " + std::to_string(pos));
    }

    bool more() const { return pos < pattern.size(); }
    uint32_t peek(size_t ahead = 0) const { return pos + ahead < pattern.size() ? unit(pattern[pos + ahead]) : 0; }

    int32_t emit(regex_program::inst inst) {
        if (program.code.size() > 100000) {
            fail("pattern too large");
        }
        program.code.push_back(inst);
        return int32_t(program.code.size()) - 1;
    }

    int32_t here() const { return int32_t(program.code.size()); }

    // Inserts an instruction before those from `at` on. What stands before `at` and leads there leads to the new one.
    void insert(int32_t at, regex_program::inst inst) {
        program.code.insert(program.code.begin() + at, inst);
        for (int32_t i = at + 1; i < here(); i++) {
            auto & it = program.code[size_t(i)];
            if (it.op == regex_program::SPLIT || it.op == regex_program::JUMP || it.op == regex_program::LOOK) {
                it.x += it.x >= at;
            }
            if (it.op == regex_program::SPLIT) {
                it.y += it.y >= at;
            }
        }
    }

    void alternatives() {
        const int32_t start = here();
        sequence();
        std::vector<int32_t> exits;
        int32_t branch = start;
        while (more() && peek() == '|') {
            pos++;
            insert(branch, {regex_program::SPLIT, false, branch + 1, 0, 0});
            exits.push_back(emit({regex_program::JUMP, false, 0, 0, 0}));
            program.code[size_t(branch)].y = here();
            branch = here();
            sequence();
        }
        for (int32_t exit : exits) {
            program.code[size_t(exit)].x = here();
        }
    }

    void sequence() {
        while (more() && peek() != '|' && peek() != ')') {
            const int32_t start = here();
            if (atom()) {
                repetition(start);
            }
        }
    }

    // One atom; false for an assertion, which takes no repetition.
    bool atom() {
        const uint32_t c = peek();
        if (c == '(') {
            pos++;
            if (peek() == '?' && peek(1) == ':') {
                pos += 2;
                alternatives();
                group_end();
                return true;
            }
            if (peek() == '?' && (peek(1) == '=' || peek(1) == '!')) {
                const bool negative = peek(1) == '!';
                pos += 2;
                const int32_t look = emit({regex_program::LOOK, negative, 0, 0, 0});
                alternatives();
                emit({regex_program::ACCEPT, false, 0, 0, 0});
                program.code[size_t(look)].x = here();
                group_end();
                return false;
            }
            if (peek() == '?') {
                fail("unknown group");
            }
            alternatives();
            group_end();
            return true;
        }
        if (c == '$') {
            pos++;
            emit({regex_program::END, false, 0, 0, 0});
            return false;
        }
        if (c == '[') {
            pos++;
            set(bracket());
            return true;
        }
        if (c == '*' || c == '+' || c == '?' || c == '{' || c == '^' || c == '.') {
            fail("unsupported syntax");
        }
        unit_set one;
        if (c == '\\') {
            pos++;
            escape(one, false);
        } else {
            pos++;
            one.add(c, c);
        }
        one.close(false);
        set(std::move(one));
        return true;
    }

    void group_end() {
        if (!more() || peek() != ')') {
            fail("missing )");
        }
        pos++;
    }

    void set(unit_set s) {
        program.sets.push_back(std::move(s));
        emit({regex_program::UNIT, false, int32_t(program.sets.size()) - 1, 0, 0});
    }

    // After a backslash: adds what the escape stands for; true if that is a single unit, left in `last`.
    bool escape(unit_set & into, bool inside) {
        if (!more()) {
            fail("trailing backslash");
        }
        const uint32_t c = peek();
        pos++;
        unit_set s;
        switch (c) {
            case 's': case 'S':
                s.add(9, 13);
                s.add(32, 32);
                s.close(c == 'S');
                into.add_all(s);
                return false;
            case 'd': case 'D':
                s.add('0', '9');
                s.close(c == 'D');
                into.add_all(s);
                return false;
            case 'n': last = '\n'; break;
            case 'r': last = '\r'; break;
            case 't': last = '\t'; break;
            case 'f': last = '\f'; break;
            case 'v': last = '\v'; break;
            default:
                if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) {
                    fail("unsupported escape");
                }
                last = c;
        }
        if (!inside) {
            into.add(last, last);
        }
        return true;
    }

    uint32_t last = 0;

    unit_set bracket() {
        unit_set s;
        const bool negated = more() && peek() == '^';
        pos += negated;
        bool first = true;
        while (true) {
            if (!more()) {
                fail("missing ]");
            }
            const uint32_t c = peek();
            if (c == ']' && !first) {
                pos++;
                break;
            }
            if (c == '[' && (peek(1) == ':' || peek(1) == '.' || peek(1) == '=')) {
                fail("unsupported class");
            }
            first = false;
            pos++;
            last = c;
            if (c == '\\' && !escape(s, true)) {
                continue;
            }
            const uint32_t from = last;
            if (peek() == '-' && pos + 1 < pattern.size() && peek(1) != ']') {
                pos++;
                last = peek();
                pos++;
                if (last == '\\' && !escape(s, true)) {
                    fail("class as end of a range");
                }
                if (last < from) {
                    fail("range out of order");
                }
                s.add(from, last);
            } else {
                s.add(from, from);
            }
        }
        s.close(negated);
        return s;
    }

    void repetition(int32_t start) {
        const uint32_t c = peek();
        int min, max; // max -1: no limit
        if (!more()) {
            return;
        }
        if (c == '*') {
            min = 0; max = -1;
        } else if (c == '+') {
            min = 1; max = -1;
        } else if (c == '?') {
            min = 0; max = 1;
        } else if (c == '{') {
            pos++;
            min = number();
            max = min;
            if (peek() == ',') {
                pos++;
                max = peek() == '}' ? -1 : number();
            }
            if (peek() != '}' || (max >= 0 && max < min)) {
                fail("bad repetition");
            }
        } else {
            return;
        }
        pos++;
        if (more() && (peek() == '?' || peek() == '*' || peek() == '+' || peek() == '{')) {
            fail("unsupported repetition");
        }

        const std::vector<regex_program::inst> body(program.code.begin() + start, program.code.end());
        program.code.resize(start);
        for (int i = 0; i < min; i++) {
            copy(body, start);
        }
        if (max < 0) {
            // again: SPLIT body, out; body; JUMP again
            const int32_t again = emit({regex_program::SPLIT, false, 0, 0, 0});
            program.code[size_t(again)].x = here();
            copy(body, start);
            emit({regex_program::JUMP, false, again, 0, 0});
            program.code[size_t(again)].y = here();
        } else {
            std::vector<int32_t> splits;
            for (int i = min; i < max; i++) {
                splits.push_back(emit({regex_program::SPLIT, false, 0, 0, 0}));
                program.code[size_t(splits.back())].x = here();
                copy(body, start);
            }
            for (int32_t split : splits) {
                program.code[size_t(split)].y = here();
            }
        }
    }

    int number() {
        if (!(peek() >= '0' && peek() <= '9')) {
            fail("number expected");
        }
        int n = 0;
        while (peek() >= '0' && peek() <= '9') {
            n = n * 10 + int(peek() - '0');
            if (n > 1000) {
                fail("repetition too large");
            }
            pos++;
        }
        return n;
    }

    // Appends instructions that were written for position `from`.
    void copy(const std::vector<regex_program::inst> & body, int32_t from) {
        const int32_t shift = here() - from;
        for (auto inst : body) {
            if (inst.op == regex_program::SPLIT || inst.op == regex_program::JUMP || inst.op == regex_program::LOOK) {
                inst.x += shift;
            }
            if (inst.op == regex_program::SPLIT) {
                inst.y += shift;
            }
            emit(inst);
        }
    }
};

template <typename CharT>
class regex_matcher {
public:
    explicit regex_matcher(const regex_program & program)
        : program(program), words(size_t(program.choices + 63) / 64) {}

    // The text that the next calls are about.
    void range(const CharT * begin, const CharT * end) {
        text = begin;
        length = size_t(end - begin);
        failed.assign(words * (length + 1), 0);
        held.clear(); // allocated by the first lookahead that needs it
    }

    // The end of the match that starts at `start`, or -1. Without `empty`, a match has at least one character.
    int64_t match(size_t start, bool empty) {
        const size_t refuse = empty ? SIZE_MAX : start;
        const int64_t end = run(0, start, false, refuse);
        if (!empty) {
            // What failed at `start` may have failed only because it was empty.
            std::fill_n(failed.begin() + ptrdiff_t(words * start), words, 0);
        }
        return end;
    }

private:
    const regex_program & program;
    const size_t words;
    const CharT * text = nullptr;
    size_t length = 0;

    // Bit per character and choice: it was tried and fails; or, inside a lookahead, it leads to its end.
    std::vector<uint64_t> failed;
    std::vector<uint64_t> held;

    struct job { int32_t pc; size_t pos; size_t trail; };
    struct step { size_t pos; int32_t choice; };
    std::vector<job> jobs;   // alternatives not yet tried
    std::vector<step> trail; // the choices on the way to here

    static bool bit(const std::vector<uint64_t> & bits, size_t row, int32_t choice) {
        return (bits[row + size_t(choice >> 6)] >> (choice & 63)) & 1;
    }

    // Recurses only into lookaheads, as deep as the pattern nests them.
    int64_t run(int32_t pc, size_t pos, bool look, size_t refuse) {
        const size_t first_job = jobs.size();
        const size_t first_step = trail.size();
        while (true) {
            const auto & inst = program.code[size_t(pc)];
            bool dead = false;
            switch (inst.op) {
                case regex_program::UNIT:
                    if (pos < length && program.sets[size_t(inst.x)].contains(regex_compiler<CharT>::unit(text[pos]))) {
                        pos++;
                        pc++;
                    } else {
                        dead = true;
                    }
                    break;
                case regex_program::SPLIT: {
                    const size_t row = words * pos;
                    if (look && !held.empty() && bit(held, row, inst.choice)) {
                        return done(first_job, first_step, true, int64_t(pos));
                    }
                    if (bit(failed, row, inst.choice)) {
                        dead = true;
                        break;
                    }
                    failed[row + size_t(inst.choice >> 6)] |= uint64_t(1) << (inst.choice & 63);
                    trail.push_back({pos, inst.choice});
                    jobs.push_back({inst.y, pos, trail.size()});
                    pc = inst.x;
                    break;
                }
                case regex_program::JUMP:
                    pc = inst.x;
                    break;
                case regex_program::LOOK: {
                    const bool found = run(pc + 1, pos, true, SIZE_MAX) >= 0;
                    if (found != inst.negative) {
                        pc = inst.x;
                    } else {
                        dead = true;
                    }
                    break;
                }
                case regex_program::END:
                    if (pos == length) {
                        pc++;
                    } else {
                        dead = true;
                    }
                    break;
                case regex_program::ACCEPT:
                    if (pos != refuse) {
                        return done(first_job, first_step, look, int64_t(pos));
                    }
                    dead = true;
                    break;
            }
            if (dead) {
                if (jobs.size() == first_job) {
                    trail.resize(first_step); // all of it failed: its bits stay
                    return -1;
                }
                pc = jobs.back().pc;
                pos = jobs.back().pos;
                trail.resize(jobs.back().trail);
                jobs.pop_back();
            }
        }
    }

    // The choices on the way to a match have not failed; those of a lookahead hold wherever it is asked again.
    int64_t done(size_t first_job, size_t first_step, bool look, int64_t end) {
        if (look && trail.size() > first_step && held.empty()) {
            held.assign(failed.size(), 0);
        }
        for (size_t i = first_step; i < trail.size(); i++) {
            const size_t word = words * trail[i].pos + size_t(trail[i].choice >> 6);
            const uint64_t mask = uint64_t(1) << (trail[i].choice & 63);
            failed[word] &= ~mask;
            if (look) {
                held[word] |= mask;
            }
        }
        trail.resize(first_step);
        jobs.resize(first_job);
        return end;
    }
};

template <typename CharT>
std::shared_ptr<const regex_program> regex_compiled(const std::basic_string<CharT> & pattern) {
    static std::mutex mutex;
    static std::unordered_map<std::basic_string<CharT>, std::shared_ptr<const regex_program>> programs;
    std::lock_guard<std::mutex> lock(mutex);
    auto & program = programs[pattern];
    if (!program) {
        program = std::make_shared<const regex_program>(regex_compiler<CharT>::compile(pattern));
    }
    return program;
}

// Splits each of the consecutive ranges of `text`, given by their lengths, into its matches and the text between them: the
// lengths that iterating std::regex_iterator over the range gives.
template <typename CharT>
std::vector<size_t> regex_split(const std::basic_string<CharT> & text, const std::basic_string<CharT> & pattern,
                                const std::vector<size_t> & lengths) {
    if (text.empty()) {
        return {}; // also for the patterns that upstream has its own code for and that reach this place with nothing to do
    }
    const auto program = regex_compiled(pattern);
    regex_matcher<CharT> matcher(*program);
    std::vector<size_t> split;
    split.reserve(lengths.size());
    const CharT * begin = text.data();
    for (const size_t length : lengths) {
        matcher.range(begin, begin + length);
        size_t taken = 0; // up to here the split is done
        size_t start = 0;
        bool after_empty = false;
        while (start <= length) {
            int64_t end = -1;
            if (after_empty) {
                // As the iterator does: first something longer at the same place, then on from the next character.
                after_empty = false;
                if (start == length) {
                    break;
                }
                end = matcher.match(start, false);
                if (end < 0) {
                    start++;
                }
            }
            while (end < 0 && start <= length && (end = matcher.match(start, true)) < 0) {
                start++;
            }
            if (end < 0) {
                break;
            }
            if (start > taken) {
                split.push_back(start - taken);
            }
            split.push_back(size_t(end) - start);
            taken = size_t(end);
            after_empty = taken == start;
            start = taken;
        }
        if (taken < length) {
            split.push_back(length - taken);
        }
        begin += length;
    }
    return split;
}

} // namespace pl
