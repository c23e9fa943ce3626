package io.github.panamallama.runtime;

import java.util.Arrays;
import java.util.regex.Pattern;

/**
 * Which blocks of a model a {@link Sequence} is evaluated with, and how often: each is run, left out, run in part or repeated. Fixed when
 * the sequence is made. Immutable; equal when every block is treated alike.
 *
 * <p>Printed, and {@linkplain #parse parsed}, as the list of what runs, in the order of the blocks: {@code 0-3,5,7x2} runs blocks 0 to 3,
 * block 5 once and block 7 twice. A block may be run in part: {@code 4:attn} its attention alone, {@code 4:ffn} its feed-forward part
 * alone, {@code 4:kv} nothing but its keys and values, so that another sequence may take them over and run the block again
 * ({@link CacheReuse#APPROXIMATE}). What is not in the list is left out with its keys and values.
 *
 * <p>Left-out blocks hand their input on unchanged. A block that runs {@code n} times hands its output to itself {@code n - 1} times; each
 * repetition has keys and values of its own, in {@linkplain EngineOptions#withSpareLayers spare layers} of the engine.
 */
public final class LayerPlan {
    /** Most times that a block can run. */
    public static final int MAX_RUNS = 8;

    // what a block does: how often it runs, or one of the parts below
    private static final byte SKIP = 0;
    private static final byte RUN = 1;
    private static final byte KEYS_AND_VALUES = -1;
    private static final byte ATTENTION = -2;
    private static final byte FEED_FORWARD = -3;

    private static final Pattern ITEM = Pattern.compile("(\\d+)(?:-(\\d+))?(?:x(\\d+)|:(attn|ffn|kv))?");

    private final byte[] blocks;

    private LayerPlan(byte[] blocks) {
        this.blocks = blocks;
    }

    /** The plan that runs every block once: the model as it is. */
    public static LayerPlan all(int blocks) {
        if (blocks < 1) {
            throw new IllegalArgumentException("a plan for " + blocks + " blocks; there must be at least 1");
        }
        var actions = new byte[blocks];
        Arrays.fill(actions, RUN);
        return new LayerPlan(actions);
    }

    /** The plan that runs the given blocks once and leaves the others out. */
    public static LayerPlan keeping(boolean[] kept) {
        var plan = all(kept.length);
        for (int i = 0; i < kept.length; i++) {
            plan.blocks[i] = kept[i] ? RUN : SKIP;
        }
        return plan;
    }

    /**
     * Reads what {@link #toString} prints.
     *
     * @param text   such as {@code 0-3,5,7x2}; spaces are ignored; {@code all} runs every block once
     * @param blocks of the model
     * @throws IllegalArgumentException if the text is not a plan, or names a block that the model lacks
     */
    public static LayerPlan parse(String text, int blocks) {
        var plan = all(blocks);
        var compact = text.replaceAll("\\s", "");
        if (compact.equals("all")) {
            return plan;
        }
        Arrays.fill(plan.blocks, SKIP);
        int next = 0;
        for (var item : compact.split(",", -1)) {
            var match = ITEM.matcher(item);
            if (!match.matches()) {
                throw new IllegalArgumentException("'" + item + "' in the plan '" + text
                        + "' is not a block (5), a range (0-3), a repetition (7x2) or a part of a block (4:attn, 4:ffn, 4:kv)");
            }
            int first = number(match.group(1), text);
            int last = match.group(2) == null ? first : number(match.group(2), text);
            if (first > last) {
                throw new IllegalArgumentException("'" + item + "' in the plan '" + text + "' counts backwards");
            }
            if (last >= blocks) {
                throw new IllegalArgumentException("block " + last + " in the plan '" + text + "': the model has blocks 0 to "
                        + (blocks - 1));
            }
            if (first < next) {
                throw new IllegalArgumentException("block " + first + " in the plan '" + text + "' comes behind block " + (next - 1)
                        + "; blocks stand in ascending order, each once");
            }
            byte action = RUN;
            if (match.group(3) != null) {
                action = times(number(match.group(3), text));
            } else if (match.group(4) != null) {
                action = switch (match.group(4)) {
                    case "attn" -> ATTENTION;
                    case "ffn" -> FEED_FORWARD;
                    default -> KEYS_AND_VALUES;
                };
            }
            Arrays.fill(plan.blocks, first, last + 1, action);
            next = last + 1;
        }
        return plan;
    }

    private static int number(String digits, String text) {
        try {
            return Integer.parseInt(digits);
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException("the number " + digits + " in the plan '" + text + "' is too large", e);
        }
    }

    private static byte times(int times) {
        if (times < 1 || times > MAX_RUNS) {
            throw new IllegalArgumentException("a block that runs " + times + " times; it may run 1 to " + MAX_RUNS
                    + " times, and is left out of the list otherwise");
        }
        return (byte) times;
    }

    /** This plan, but without the given blocks and their keys and values. */
    public LayerPlan skip(int... blocks) {
        return with(SKIP, blocks);
    }

    /** This plan, but with nothing of the given blocks except their keys and values. */
    public LayerPlan skipKeepingCache(int... blocks) {
        return with(KEYS_AND_VALUES, blocks);
    }

    /** This plan, but without the attention of the given blocks, and without their keys and values. */
    public LayerPlan skipAttention(int... blocks) {
        return with(FEED_FORWARD, blocks);
    }

    /** This plan, but without the feed-forward part of the given blocks. */
    public LayerPlan skipFeedForward(int... blocks) {
        return with(ATTENTION, blocks);
    }

    /** This plan, but with the given blocks run once. */
    public LayerPlan run(int... blocks) {
        return with(RUN, blocks);
    }

    /**
     * This plan, but with a block run several times in a row.
     *
     * @param times 1 to {@value #MAX_RUNS}
     */
    public LayerPlan repeat(int block, int times) {
        return with(times(times), block);
    }

    private LayerPlan with(byte action, int... changed) {
        var actions = blocks.clone();
        for (int block : changed) {
            actions[check(block)] = action;
        }
        return new LayerPlan(actions);
    }

    private int check(int block) {
        if (block < 0 || block >= blocks.length) {
            throw new IllegalArgumentException("block " + block + ": the plan is for blocks 0 to " + (blocks.length - 1));
        }
        return block;
    }

    /**
     * This plan, but with the keys and values of blocks that it leaves out and another plan attends to, so that the other one can go on
     * behind its tokens ({@link CacheReuse#APPROXIMATE}). Feed-forward parts that run alone, and repetitions, stay as they are.
     */
    public LayerPlan keepingCacheFor(LayerPlan other) {
        var actions = blocks.clone();
        for (int i = 0; i < Math.min(blocks.length, other.blocks.length); i++) {
            if (actions[i] == SKIP && other.attention(i)) {
                actions[i] = KEYS_AND_VALUES;
            }
        }
        return new LayerPlan(actions);
    }

    /**
     * Makes sure that this plan can go on behind tokens that were evaluated under another one.
     *
     * @throws LayerPlanException if it would read keys and values that the other one doesn't make, or is for another number of blocks
     */
    public void requireCacheOf(LayerPlan earlier) {
        if (earlier.blocks.length != blocks.length) {
            throw new LayerPlanException("the plan '" + this + "' is for " + blocks.length + " blocks and '" + earlier + "' for "
                    + earlier.blocks.length);
        }
        var missing = missing(earlier);
        if (missing != null) {
            throw new LayerPlanException("the plan '" + this + "' reads " + missing + ", and tokens under '" + earlier + "' have none; "
                    + "keep them there, as 4:kv does for block 4, and repeat blocks equally often in both");
        }
    }

    /** Blocks of the model. */
    public int blocks() {
        return blocks.length;
    }

    /** How often a block runs as a whole: 0 for one that is left out or runs in part. */
    public int runs(int block) {
        return Math.max(0, blocks[check(block)]);
    }

    /** Whether the attention of a block runs, at least once. */
    public boolean attention(int block) {
        return blocks[check(block)] > 0 || blocks[block] == ATTENTION;
    }

    /** Whether the feed-forward part of a block runs, at least once. */
    public boolean feedForward(int block) {
        return blocks[check(block)] > 0 || blocks[block] == FEED_FORWARD;
    }

    /** Whether the cache holds keys and values of a block. */
    public boolean cached(int block) {
        return blocks[check(block)] != SKIP && blocks[block] != FEED_FORWARD;
    }

    /** Whether this is the model as it is. */
    public boolean isFull() {
        for (byte action : blocks) {
            if (action != RUN) {
                return false;
            }
        }
        return true;
    }

    /** Blocks' worth of work: a whole run counts 1, attention or feed-forward alone a half, keys and values nothing. */
    public double cost() {
        double sum = 0;
        for (byte action : blocks) {
            sum += action >= 0 ? action : action == KEYS_AND_VALUES ? 0 : 0.5;
        }
        return sum;
    }

    /** Spare layers of the cache that the repetitions take. */
    public int spareLayers() {
        int sum = 0;
        for (byte action : blocks) {
            sum += Math.max(0, action - 1);
        }
        return sum;
    }

    /**
     * What this plan reads of the keys and values of earlier tokens that a plan did not make for them; null when it made all of them.
     * Repetitions take spare layers in the order of the blocks, and find there what was kept for the same repetition only.
     */
    String missing(LayerPlan earlier) {
        int spare = 0;
        int theirs = 0;
        for (int i = 0; i < blocks.length; i++) {
            if (attention(i) && !earlier.cached(i)) {
                return "keys and values of block " + i;
            }
            int repetitions = Math.max(0, blocks[i] - 1);
            int kept = Math.max(0, earlier.blocks[i] - 1);
            if (repetitions > kept || repetitions > 0 && spare != theirs) {
                return "keys and values of the repetitions of block " + i;
            }
            spare += repetitions;
            theirs += kept;
        }
        return null;
    }

    /** What a block does, as native code has it: how often it runs, or -1 keys and values, -2 attention, -3 feed-forward alone. */
    byte action(int block) {
        return blocks[block];
    }

    @Override
    public boolean equals(Object other) {
        return this == other || other instanceof LayerPlan plan && Arrays.equals(blocks, plan.blocks);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(blocks);
    }

    @Override
    public String toString() {
        var text = new StringBuilder();
        for (int i = 0; i < blocks.length; i++) {
            if (blocks[i] == SKIP) {
                continue;
            }
            int last = i;
            while (last + 1 < blocks.length && blocks[last + 1] == blocks[i]) {
                last++;
            }
            text.append(text.isEmpty() ? "" : ",").append(i);
            if (last > i) {
                text.append('-').append(last);
            }
            text.append(switch (blocks[i]) {
                case RUN -> "";
                case KEYS_AND_VALUES -> ":kv";
                case ATTENTION -> ":attn";
                case FEED_FORWARD -> ":ffn";
                default -> "x" + blocks[i];
            });
            i = last;
        }
        return text.toString();
    }
}
