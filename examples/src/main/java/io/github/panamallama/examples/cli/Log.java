package io.github.panamallama.examples.cli;

import java.util.ResourceBundle;

/**
 * The System.Logger of this program: silent, because failures arrive as exceptions with their reason; with {@code --debug} the project's own lines
 * go to standard error. It also spares the start of java.util.logging.
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
                return shown && name.startsWith("panamallama") && level != Level.OFF && level.compareTo(Level.DEBUG) >= 0;
            }

            @Override
            public void log(Level level, ResourceBundle bundle, String message, Throwable thrown) {
                if (isLoggable(level)) {
                    System.err.println(name + " " + level + ": " + message);
                    if (thrown != null) {
                        thrown.printStackTrace();
                    }
                }
            }

            @Override
            public void log(Level level, ResourceBundle bundle, String format, Object... parameters) {
                log(level, bundle, parameters == null || parameters.length == 0 ? format : java.text.MessageFormat.format(format, parameters),
                        (Throwable) null);
            }
        };
    }
}
