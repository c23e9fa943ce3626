package io.github.panamallama.runtime;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/** Texts made to meet every rule of the pre-tokenizers. */
final class TextSamples {
    private static final List<String> PARTS = List.of("a", "b", "Z", "the ", " int", "s", "'s", "'t", "'re", "'LL", "'", "0", "1", "22",
            "333",
            "4444", " ", "  ", "   ", "\n", "\r\n", "\t", "\n\n", " \n ", "=", "==", "+", "$", "<", "^", "~", "|", "`", ".", ",", "!", "?",
                    "-", "_",
            "(", "[", "]", "{", "}", "\\", "/", "é", "É", "ß", "中", "国", "あ", "ア", "한", "글", "ㄱ", "😀", "\u0301", "\u200d", "\u00a0",
                    "\u3000", "\u2028",
            "،", "।", "٣", "Ⅷ", "ǅ", "ʰ", "…", "“", "”", "：", "〿", "αβ", "Ж", "ж", "م", "€", "\0", "\u0001", "▁",
                    "public static void main(",
            "return x;\n    }\n");

    private TextSamples() {}

    /** A text of at least {@code length} characters, in part of runs, with {@code extra} strewn in. */
    static String random(Random random, int length, List<String> extra) {
        var favourites = new ArrayList<String>();
        for (var i = 0; i < 3; i++) {
            favourites.add(PARTS.get(random.nextInt(PARTS.size())));
        }
        var mixed = random.nextInt(3) == 0;
        var extras = random.nextInt(4);
        var text = new StringBuilder();
        while (text.length() < length) {
            if (!extra.isEmpty() && random.nextInt(10) < extras) {
                var one = extra.get(random.nextInt(extra.size()));
                text.append(one, 0, random.nextInt(8) == 0 ? random.nextInt(one.length() + 1) : one.length());
                continue;
            }
            var from = mixed || random.nextInt(6) == 0 ? PARTS : favourites;
            text.append(from.get(random.nextInt(from.size())).repeat(random.nextInt(8) == 0 ? 1 + random.nextInt(40) : 1));
        }
        return text.toString();
    }
}
