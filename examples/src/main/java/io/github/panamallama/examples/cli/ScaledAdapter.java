package io.github.panamallama.examples.cli;

import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/**
 * An adapter on the command line, {@code FILE[:SCALE]}.
 *
 * @param scale finite; 1 if none is given
 */
record ScaledAdapter(Path file, float scale) {
    /** Reads {@code FILE[:SCALE]}. A file whose own name ends like a scale is taken as it is. */
    static final class Converter implements ITypeConverter<ScaledAdapter> {
        @Override
        public ScaledAdapter convert(String text) {
            int colon = text.lastIndexOf(':');
            try {
                var scale = colon < 1 || Files.exists(Path.of(text)) ? null : number(text.substring(colon + 1));
                if (scale == null) {
                    return new ScaledAdapter(Path.of(text), 1);
                }
                if (!Float.isFinite(scale)) {
                    throw new TypeConversionException("the scale in '" + text + "' is " + scale + "; it must be finite");
                }
                return new ScaledAdapter(Path.of(text.substring(0, colon)), scale);
            } catch (InvalidPathException e) {
                throw new TypeConversionException("'" + text + "' is no file name: " + e.getReason());
            }
        }

        /** Null if it is none: the colon then belongs to the name. */
        private static Float number(String text) {
            try {
                return Float.valueOf(text);
            } catch (NumberFormatException e) {
                return null;
            }
        }
    }
}
