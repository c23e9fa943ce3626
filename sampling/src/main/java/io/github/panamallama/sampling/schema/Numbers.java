package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.automaton.CodePoints;
import io.github.panamallama.sampling.automaton.Encoding;
import io.github.panamallama.sampling.automaton.RegexPool;
import java.math.BigDecimal;
import java.math.BigInteger;

/**
 * Languages of JSON number texts without exponent. In them order, divisibility and equality are regular; with exponents they are not
 * (the automaton would have to count), so that an exponent may be written only where any number will do. Every language here holds all
 * plain texts of the values it means: 1, 1.0 and 1.00; 0 and -0.
 */
final class Numbers {
    /** Digits on either side of the point in a bound or constant: what a text of reasonable length can be compared with. */
    private static final int MOST_DIGITS = 1_000;

    private final RegexPool pool;
    private final int digit;
    private final int digits;
    private final int fraction;
    private final int zeros;
    private final int point;
    private final int magnitude;
    /** Every number without exponent. */
    final int plain;
    /** What may follow any number, or not: an exponent, of as many digits as binary64 has use for. */
    final int exponent;
    /** One text per value: no exponent, no zero at the end of a fraction, no minus before zero. */
    final int shortest;
    final int integer;

    Numbers(RegexPool pool) {
        this.pool = pool;
        digit = digits('0', '9');
        digits = pool.repeat(digit, 0, RegexPool.UNBOUNDED);
        point = pool.literal(".");
        fraction = pool.optional(pool.concat(point, pool.repeat(digit, 1, RegexPool.UNBOUNDED)));
        zeros = pool.optional(pool.concat(point, pool.repeat(digits('0', '0'), 1, RegexPool.UNBOUNDED)));
        int whole = pool.alt(pool.literal("0"), pool.concat(digits('1', '9'), digits));
        magnitude = pool.concat(whole, fraction);
        int minus = pool.optional(pool.literal("-"));
        plain = pool.concat(minus, magnitude);
        integer = pool.concat(minus, whole, zeros);
        exponent = pool.concat(pool.alt(pool.literal("e"), pool.literal("E")),
                pool.optional(pool.alt(pool.literal("+"), pool.literal("-"))), pool.repeat(digit, 1, 3));
        int decimals = pool.concat(point, digits, digits('1', '9'));
        int zero = pool.literal("0");
        int positive = pool.alt(pool.concat(digits('1', '9'), digits, pool.optional(decimals)), pool.concat(zero, decimals));
        shortest = pool.alt(zero, pool.concat(minus, positive));
    }

    private int digits(char first, char last) {
        return first > last ? RegexPool.NOTHING : pool.chars(CodePoints.range(first, last), Encoding.UTF8);
    }

    /** @throws Refusal if the number has too many digits */
    static BigDecimal check(BigDecimal value) {
        BigDecimal v = value.signum() == 0 ? BigDecimal.ZERO : value.stripTrailingZeros();
        if (v.scale() > MOST_DIGITS || v.precision() - (long) v.scale() > MOST_DIGITS) {
            throw new Refusal(null, "a number with more than " + MOST_DIGITS + " digits cannot be enforced");
        }
        return v;
    }

    int equal(BigDecimal value) {
        BigDecimal v = check(value);
        if (v.signum() == 0) {
            return pool.concat(pool.optional(pool.literal("-")), pool.literal("0"), zeros);
        }
        String text = v.abs().toPlainString();
        int dot = text.indexOf('.');
        int tail = dot < 0 ? zeros : pool.repeat(digits('0', '0'), 0, RegexPool.UNBOUNDED);
        return pool.concat(pool.literal((v.signum() < 0 ? "-" : "") + text), tail);
    }

    /** Numbers of at least {@code value}, or above it. */
    int above(BigDecimal value, boolean orEqual) {
        BigDecimal v = check(value);
        int minus = pool.literal("-");
        if (v.signum() > 0) {
            return larger(v, orEqual);
        }
        int zero = equal(BigDecimal.ZERO);
        int positive = pool.minus(magnitude, zero);
        if (v.signum() == 0) {
            return orEqual ? pool.alt(positive, zero) : positive;
        }
        int far = pool.concat(minus, larger(v.negate(), !orEqual));
        return pool.minus(plain, far);
    }

    int below(BigDecimal value, boolean orEqual) {
        return pool.minus(plain, above(value, !orEqual));
    }

    /** Texts without sign whose value is above {@code v > 0}, or equal to it. */
    private int larger(BigDecimal v, boolean orEqual) {
        String text = v.toPlainString();
        int dot = text.indexOf('.');
        String whole = dot < 0 ? text : text.substring(0, dot);
        String part = dot < 0 ? "" : text.substring(dot + 1);
        // from the last digit to the first: what may stand from here on, given that all before was equal
        int same = pool.repeat(digits('0', '0'), 0, RegexPool.UNBOUNDED);
        int more = pool.concat(same, digits('1', '9'), digits);
        int rest = orEqual ? digits : more;
        for (int i = part.length() - 1; i >= 0; i--) {
            char d = part.charAt(i);
            // a text that ends inside the bound's digits is smaller
            rest = pool.alt(pool.concat(digits((char) (d + 1), '9'), digits), pool.concat(pool.literal(String.valueOf(d)), rest));
        }
        int after;
        if (part.isEmpty()) {
            after = orEqual ? fraction : pool.concat(point, more);
        } else {
            after = pool.concat(point, rest);
        }
        int n = whole.length();
        for (int i = n - 1; i >= 0; i--) {
            char d = whole.charAt(i);
            int left = pool.concat(pool.repeat(digit, n - 1 - i, n - 1 - i), fraction);
            after = pool.alt(pool.concat(digits((char) (d + 1), '9'), left), pool.concat(pool.literal(String.valueOf(d)), after));
        }
        int longer = pool.concat(digits('1', '9'), pool.repeat(digit, n, RegexPool.UNBOUNDED), fraction);
        return pool.alt(after, longer);
    }

    /** Multiples of {@code value > 0}. */
    int multiple(BigDecimal value) {
        BigDecimal v = check(value);
        int scale = Math.max(0, v.scale());
        BigInteger p = v.scaleByPowerOfTen(scale).toBigIntegerExact();
        if (p.bitLength() > 31) {
            throw new Refusal(null, "multiples of " + value.toPlainString() + " cannot be enforced: more than 31 bits");
        }
        return pool.and(plain, pool.concat(pool.optional(pool.literal("-")), pool.multiple(p.intValue(), scale)));
    }
}
