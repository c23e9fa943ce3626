package io.github.panamallama.sampling.schema;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.annotation.JsonIgnore;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonPropertyDescription;
import com.fasterxml.jackson.annotation.JsonTypeInfo;
import com.fasterxml.jackson.annotation.JsonTypeName;
import io.github.panamallama.sampling.grammar.JsonOptions;
import io.github.panamallama.sampling.grammar.JsonType;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.UUID;
import org.junit.jupiter.api.Test;
import tools.jackson.core.type.TypeReference;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;

class JsonTypeTest {
    enum Colour { RED, GREEN, @JsonProperty("light-blue") LIGHT_BLUE }

    @Retention(RetentionPolicy.RUNTIME)
    @Target(ElementType.TYPE_USE)
    @interface Nullable { }

    record City(String name, int people, @JsonPropertyDescription("on the river of this name") @Nullable String river,
            Optional<Colour> flag, @JsonProperty("co-ordinates") double[] position) {
        public String getSlogan() {
            return "a getter that is no component";
        }
    }

    record Tree(int value, List<Tree> children) { }

    record Everything(byte a, short b, int c, long d, float e, double f, boolean g, char h, Byte i, BigInteger j, BigDecimal k, String l,
            UUID m, URI n, LocalDate o, LocalTime p, LocalDateTime q, OffsetDateTime r, Instant s, Duration t, List<Set<Integer>> u,
            Map<String, Colour> v, Map<Colour, Boolean> w, Optional<String> x, Colour y, long[][] z) { }

    @JsonTypeInfo(use = JsonTypeInfo.Id.NAME, property = "kind")
    sealed interface Figure permits Circle, Square { }

    @JsonTypeName("circle")
    record Circle(double radius) implements Figure { }

    @JsonTypeName("square")
    record Square(double side) implements Figure { }

    record Drawing(List<Figure> figures) { }

    interface Untold { }

    static final class Bean {
        public int size;
        private String name;
        @JsonIgnore
        public String hidden = "x";

        public String getName() {
            return name;
        }

        public void setName(String name) {
            this.name = name;
        }
    }

    private static Verdicts of(JsonType<?> type) {
        return new Verdicts(type.schema(), JsonOptions.DEFAULT.formats(true));
    }

    @Test
    void aRecordIsReadBackFromWhatItsSchemaAccepts() {
        var type = JsonType.of(City.class);
        var v = of(type);
        String text = "{\"name\":\"Bern\",\"people\":134000,\"river\":\"Aare\",\"co-ordinates\":[46.9,7.4],\"flag\":\"RED\"}";
        assertTrue(v.accepts(text));
        City bern = type.read(text);
        assertEquals("Bern", bern.name());
        assertEquals(134_000, bern.people());
        assertEquals(Optional.of(Colour.RED), bern.flag());
        assertEquals(7.4, bern.position()[1]);
        assertTrue(v.accepts("{\"people\":1,\"name\":\"\",\"river\":null,\"co-ordinates\":[]}"));
        assertEquals(Optional.empty(), type.read("{\"people\":1,\"name\":\"\",\"river\":null,\"co-ordinates\":[]}").flag());
        for (String wrong : List.of("{}", text.replace("134000", "3000000000"), text.replace("\"Bern\"", "null"),
                text.replace("RED", "PINK"),
                text.replace("\"name\"", "\"slogan\":\"\",\"name\""))) {
            assertFalse(v.accepts(wrong), wrong);
        }
        assertTrue(type.schema().contains("on the river of this name"));
    }

    @Test
    void typesMayContainThemselves() {
        var type = JsonType.of(Tree.class);
        String text = "{\"value\":1,\"children\":[{\"value\":2,\"children\":[]},{\"children\":[],\"value\":3}]}";
        assertTrue(of(type).accepts(text));
        assertEquals(3, type.read(text).children().get(1).value());
    }

    @Test
    void subtypesAreToldApartByTheirNames() {
        var type = JsonType.of(Drawing.class);
        String text = "{\"figures\":[{\"kind\":\"circle\",\"radius\":1.5},{\"side\":2,\"kind\":\"square\"}]}";
        assertTrue(of(type).accepts(text));
        assertEquals(List.of(new Circle(1.5), new Square(2)), type.read(text).figures());
        assertFalse(of(type).accepts("{\"figures\":[{\"kind\":\"circle\",\"side\":1.5}]}"));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> JsonType.of(Untold.class)).getMessage().contains("@JsonTypeInfo"));
    }

    @Test
    void beansEnumsAndGenericTypesHaveSchemas() {
        assertEquals(Colour.LIGHT_BLUE, JsonType.of(Colour.class).read("\"light-blue\""));
        assertTrue(of(JsonType.of(Colour.class)).accepts("\"light-blue\""));
        assertFalse(of(JsonType.of(Colour.class)).accepts("\"LIGHT_BLUE\""));
        var list = JsonType.of(new TypeReference<List<Map<String, Integer>>>() { });
        assertTrue(of(list).accepts("[{\"a\":1},{}]"));
        assertEquals(1, list.read("[{\"a\":1},{}]").getFirst().get("a"));
        var bean = JsonType.of(Bean.class);
        assertTrue(of(bean).accepts("{\"name\":\"n\",\"size\":3}"));
        assertFalse(of(bean).accepts("{\"name\":\"n\",\"size\":3,\"hidden\":\"\"}"));
        assertEquals(3, bean.read("{\"name\":\"n\",\"size\":3}").size);
    }

    @Test
    void aMapperBringsItsOwnNames() {
        var mapper = JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE).build();
        record Point(int leftEdge) { }
        var type = JsonType.of(mapper, Point.class);
        assertTrue(of(type).accepts("{\"left_edge\":4}"));
        assertEquals(4, type.read("{\"left_edge\":4}").leftEdge());
    }

    @Test
    void whatTheSchemaAcceptsCanBeRead() {
        var type = JsonType.of(Everything.class);
        var v = of(type);
        long seed = new Random().nextLong();
        System.out.println("seed " + seed);
        var random = new Random(seed);
        for (int i = 0; i < 300; i++) {
            String text = v.draw(random, 4_000);
            if (text != null) {
                type.read(text);
            }
        }
    }

    @Test
    void textThatDoesNotFitIsRefusedWithAReason() {
        var type = JsonType.of(City.class);
        assertTrue(assertThrows(IllegalArgumentException.class, () -> type.read("{\"people\":\"many\"}")).getMessage().contains("many"));
        assertThrows(IllegalArgumentException.class, () -> type.read("{"));
    }
}
