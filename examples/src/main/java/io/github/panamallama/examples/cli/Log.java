package io.github.panamallama.examples.cli;

import java.util.ResourceBundle;

/**
 * The System.Logger of this program: silent, because failures arrive as exceptions with their reason, but for devices that can't be used,
 * where the processor takes over without a failure; with {@code --debug} the project's own lines go to standard error. It also spares the
 * start of java.util.logging.
 */
public final class Log extends System.LoggerFinder {
    private static volatile boolean shown;

    static void show(boolean show) {
        shown = show;
    }

    @Override
    public System.Logger getLogger(String name, Module module) {
        return new System.Logger() {
            @Override
            public String getName() {
                return name;
            }

            @Override
            public boolean isLoggable(Level level) {
                return level != Level.OFF && (warns(level) || shown && name.startsWith("panamallama") && level.compareTo(Level.DEBUG) >= 0);
            }

            private boolean warns(Level level) {
                return name.equals("panamallama.devices") && level.compareTo(Level.WARNING) >= 0;
            }

            @Override
            public void log(Level level, ResourceBundle bundle, String message, Throwable thrown) {
                if (isLoggable(level)) {
                    System.err.println((shown ? name + " " + level : "panama-llama") + ": " + message);
                    if (thrown != null) {
                        thrown.printStackTrace();
                    }
                }
            }

            @Override
            public void log(Level level, ResourceBundle bundle, String format, Object... parameters) {
                log(level, bundle, parameters == null || parameters.length == 0 ? format
                        : java.text.MessageFormat.format(format, parameters),
                        (Throwable) null);
            }
        };
    }
}
