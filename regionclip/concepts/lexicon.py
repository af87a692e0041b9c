"""Words that parsers treat in a stated way; what else a word can be comes from lemminflect's open lexicon."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> frozenset[str]:
    return frozenset(phrase.strip() for phrase in text.split(","))


# --- Closed classes: words that are never the name of a thing -------------------------------------------------------

DETERMINERS = _words(
    "a an the this these those some any no each every either neither another both all half many much few fewer "
    "several such my your his her its our their whose what one two three four five six seven eight nine ten eleven "
    "twelve twenty thirty forty fifty dozen hundred thousand million billion 's ’s ' ’"
)
# Those after which a word in -s is a verb: "this looks", "another rides".
SINGULAR_DETERMINERS = _words("this each another one either neither")
# Those after which a base form is a verb unless a noun follows: "those look like bats", but "two park benches".
PLURAL_DETERMINERS = _words("these those many several few both two three four five six seven eight nine ten")
PREPOSITIONS = _words(
    "of in on at by with from for into onto over under above below behind beside besides between among amongst amid "
    "near against along across around through throughout inside outside within without upon toward towards off up "
    "down out about after before during until till since like per via beneath underneath atop alongside past beyond "
    "despite except aboard upon versus vs vs. circa than unlike"
)
CONJUNCTIONS = _words("and or but nor & plus / -")
# Conjunctions that open a clause, marks that part clauses, interjections.
BREAKS = _words(
    "how why while as when where because if whether so though although yet , ; : . ! ? -- --- … ( ) [ ] \" '' `` * | "
    "yes ok okay hi hello oh please wow lol etc"
)
# Before a verb: "it rides".
SUBJECTS = _words("i you he she it we they u")
# They open a clause whose verb follows: "people who ski".
RELATIVES = _words("who which that there")
PRONOUNS = _words(
    "me him us them someone somebody something anyone anybody anything everyone everybody everything nobody nothing "
    "none whom whoever whatever here myself yourself himself herself itself ourselves yourselves themselves mine "
    "yours hers ours theirs ones other's"
)
AUXILIARIES = _words("is are was were be been being am 's 're 'm 've has have had having ai nt ’re ’m ’ve ve re")
# Before the base form of a verb.
MODALS = _words(
    "do does did can could will would shall should may might must ca wo 'll 'd n't n’t not cannot gonna gon wanna ll "
    "let lets ’ll ’d"
)
ADVERBS = _words(
    "abroad again ago ahead almost alone already also always anyway anywhere apart ashore aside away back backstage "
    "downtown else even ever everywhere far fast forward however indoors inside instead just later least less maybe "
    "meanwhile more most nearby never now often once online only onstage outdoors overhead overseas perhaps quite "
    "rather really somewhere soon still then therefore thus today together tomorrow tonight too twice upside very "
    "well yesterday"
)

# Before a noun they make an adjective of the noun before them: "a snow covered slope".
COMPOUND_PARTICIPLES = _words(
    "covered lined filled shaped sized colored coloured themed topped flavored flavoured made based related inspired "
    "style styled drawn printed paved powered framed packed stained decorated built damaged infused bound encrusted "
    "bearing eating"
)

# --- Adjectives ------------------------------------------------------------------------------------------------------

# They say which one or how many, not what it is like: never an attribute.
MODIFIERS = _words(
    "next last first second third fourth fifth final other same own single double various different multiple main "
    "only lone whole entire full extra certain additional possible numerous countless individual former previous "
    "current upcoming further separate particular specific major minor general more most less"
)
# What a thing is like, where lemminflect also lists a noun or a verb: never a noun.
ADJECTIVES = _words(
    "close ready open sunny lonely empty old young little small big large huge tiny tall short long wide high low "
    "deep bright dark clear wet dry clean dirty new modern vintage antique pretty beautiful cute colorful colourful "
    "happy sad nice fresh hot cold warm cool busy heavy flat round sharp fat thin thick sweet sour raw ripe rough "
    "smooth plain striped checkered patchy decorative ornate domestic elderly common private professional good wild "
    "lush best better great perfect free real local classic abstract known aerial unmade safe calm quiet fancy slow "
    "quick loose strong weak poor rich smart brave sick ill hurt pregnant blind deaf dead wrong fine firm gross crisp "
    "damp moist bald blank bare rude rare worth worthy upset overcast overweight familiar live intimate standard "
    "average normal regular natural casual formal annual daily weekly monthly official able easy due super grand "
    "chief prime central upper lower spare stray vacant alert mature cosy cozy tidy fluffy floppy frosty lovely "
    "friendly homeless disabled newborn electric portable upright horizontal vertical rural urban military female "
    "male adult mens womens okay own unknown opposite straight fallen stuck lit bent worn torn interior exterior soft "
    "hard musical magic fake giant mini miniature backhand fellow senior junior joint simple favorite favourite "
    "incoming outgoing rundown compact pale bleak faux fixed given mixed faced handheld makeshift beloved derelict "
    "noble medieval"
)
# Before a noun an adjective, alone a noun: "an orange cat eats an orange"; more are known by their endings.
ADJECTIVES_TOO = _words(
    "fun remote light orange original secret rustic minimalist complex custom medium solid material individual native "
    "patient human dual firm sterling polar mobile cross key top front rear bottom middle evergreen grizzly lavender "
    "coral peach bronze silver gold golden future present kind fit fair square american asian african european "
    "mexican italian canadian indian chinese japanese french german british english spanish dutch russian korean thai "
    "greek roman swiss australian brazilian irish scottish turkish arab arabic egyptian hawaiian vietnamese latin "
    "hispanic caucasian jewish christian muslim victorian gothic romanesque oriental mediterranean"
)
COLOURS = _words(
    "red blue green yellow white black brown gray grey pink purple beige tan teal maroon turquoise violet cyan mauve "
    "crimson navy blonde blond cream multicolored multicoloured scarlet indigo magenta aqua khaki ivory"
)

# --- Nouns and verbs -------------------------------------------------------------------------------------------------

# Forms that are a verb more often than a noun; read as a noun only where the context asks for one.
VERBS = _words(
    "answer approach arrange arrive assemble assist attempt attend attract await bake bathe bend bite blow bounce "
    "break build burn call carry catch celebrate change chase chew choose chop climb close compete consider contain "
    "continue cook crash crawl create crouch cry decide decorate depart describe dig discover discuss dive drag draw "
    "drift drink drive drop expect explain explore face fall feature feed fetch fight fill finish flip float fly "
    "gallop gather gaze glance glide grab graze greet guess happen hate head help hide hike hit howl hug increase "
    "join jump kick kill kiss kneel land laugh launch lean leap learn lick lift listen live look lounge manage marry "
    "miss mount move need nibble notice offer open overlook own park pass pay peek peer perch perform pick place play "
    "point pose pour practice practise prefer prepare press pretend produce promise prove pull push put raise reach "
    "read realize receive recommend reflect relax remain remove repair replace reply report require rest return ride "
    "rise roam roll rub run rush save search select send serve sew shake share show sing skate skip slide slow "
    "smell smile sniff sort speak spend spin spit splash squat squeeze stand stare start stay steal steer stick stir "
    "stop stretch strike stroll study suggest suppose surf surround swallow sweep swim swing talk taste teach tear "
    "thank throw toss touch tow travel treat trot trust try turn twist type understand urinate use visit wag wait "
    "wake walk wander warn wash watch wave weigh wish wonder work worry wrap wrestle write yawn"
)
# Nouns only after a determiner, an adjective or a preposition: "on its back", but "looks back"; "a set", "a table set".
RARELY_NOUNS = _words(
    "set cut shut split spread back left right past west east north south southwest southeast northwest northeast "
    "inside outside add appear ask become begin believe bring buy come eat enjoy enter feel find forget get give go "
    "grow hang hear hold hope imagine include keep know lay leave let lie lose make mean meet remember say see seem "
    "sell sit take tell think want wear"
)
# Past forms that lemminflect also lists as nouns.
PAST_FORMS = _words("fell felt found saw ran sat met fed")
# -ing forms that name a thing.
THINGS_ING = _words(
    "ceiling clothing railing siding lighting bedding frosting icing topping stuffing seasoning wedding awning "
    "pudding paneling panelling scaffolding dumpling duckling string ring king wing thing evening morning earring "
    "herring offspring spring sibling scaling fencing flooring upholstery housing plumbing wiring tubing decking"
)
# -ing forms that name a thing where no object follows: "a painting of a boat", but "painting a boat".
THINGS_ING_TOO = _words(
    "building painting crossing opening covering carving drawing setting clearing filling lining dressing meeting "
    "marking engraving etching outing parking"
)
# After these no compound goes on: "a man frisbee" is two things.
PERSONS = _words(
    "man woman boy girl person child kid guy lady gentleman player toddler mother father daughter husband wife mom "
    "dad couple"
)
# Nouns although lemminflect lists an adjective of that ending, or a verb, too.
NOUNS = _words(
    "animal vegetable plastic mosaic cereal mural capital locomotive immigrant pedal panic incident tutorial "
    "attendant detective mechanic pendant mineral memorial terminal convertible resident initiative contestant "
    "detergent price thanks"
)
# Plurals after which a compound goes on: "sports car".
PLURAL_MODIFIERS = _words("sports news clothes goods")

# Names written apart that are one word.
_APART = _phrases(
    "air plane, air port, back pack, back yard, base ball, basket ball, bath robe, bath room, bath tub, bed room, bed "
    "spread, bird house, black board, book case, book shelf, brief case, butter fly, card board, chalk board, clip "
    "board, counter top, court yard, cow boy, cross walk, cup board, cup cake, dish washer, door knob, door way, "
    "dragon fly, draw bridge, drive way, ear ring, egg plant, eye glasses, farm house, fire fighter, fire fly, fire "
    "place, flag pole, flash light, foot ball, grass land, hair cut, hall way, hand bag, hand rail, head band, head "
    "board, head light, head phones, high way, hill side, jelly fish, key board, kite board, lady bug, lamp post, "
    "lamp shade, lap top, life guard, light house, motor bike, motor cycle, neck lace, neck tie, news paper, night "
    "stand, note book, over pass, paddle board, pan cake, para glider, para sail, pine apple, play ground, play pen, "
    "play room, pony tail, race track, race way, rail road, rail way, rain bow, rain coat, rest room, roof top, rose "
    "bush, row boat, run way, sail boat, sand castle, saw horse, scare crow, school house, side walk, skate board, "
    "skate boarder, smart phone, snow ball, snow board, snow boarder, snow flake, snow man, spot light, star fish, "
    "store front, suit case, sun flower, sun glasses, sun light, sun rise, sun set, super hero, super market, surf "
    "board, sweat shirt, table cloth, table top, tail gate, tea cup, tea pot, tooth brush, tooth paste, tooth pick, "
    "tree top, turn table, volley ball, wake board, walk way, wall paper, wash room, water fall, water melon, wet "
    "suit, wheel barrow, wheel chair, white board, wild flower, wild life, wind mill, wind shield, wind surfer, work "
    "bench, work shop, work station, wrist band"
)
# Names that start with an adjective or a verb form, which the rules would leave out.
_LEXICALISED = _phrases(
    "hot dog, hot sauce, hot tub, hot chocolate, potted plant, stuffed animal, stuffed bear, stuffed toy, stuffed "
    "doll, polar bear, grizzly bear, brown bear, black bear, red panda, living room, dining room, dining table, "
    "dining area, waiting room, waiting area, living area, sitting room, sitting area, seating area, dressing room, "
    "laundry room, changing room, changing table, swimming pool, wading pool, swimming suit, bathing suit, bathing "
    "cap, parking lot, parking meter, parking garage, parking space, parking spot, parking area, parking sign, "
    "parking structure, washing machine, sewing machine, vending machine, slot machine, copying machine, frying pan, "
    "cutting board, chopping board, ironing board, diving board, baking sheet, baking pan, baking dish, baking tray, "
    "baking powder, cooking pot, cooking oil, shopping cart, shopping bag, shopping mall, shopping center, shopping "
    "centre, shopping basket, shopping trolley, sleeping bag, punching bag, rocking chair, rocking horse, folding "
    "chair, folding table, walking stick, walking path, walking trail, hiking trail, hiking boot, hiking pole, "
    "running shoe, running track, riding boot, riding lesson, jogging path, fishing boat, fishing rod, fishing pole, "
    "fishing net, fishing line, fishing village, sailing boat, sailing ship, racing car, racing bike, racing track, "
    "flying disc, boxing ring, boxing glove, boxing match, wrestling match, skating rink, skating ramp, skating park, "
    "gaming system, gaming console, gaming controller, mixing bowl, mixing board, serving dish, serving tray, serving "
    "spoon, serving plate, measuring cup, drinking fountain, drinking glass, drinking straw, watering can, watering "
    "hole, chewing gum, wrapping paper, writing desk, reading glasses, french fry, french toast, french bread, french "
    "door, american football, mashed potato, baked potato, baked good, baked bean, fried egg, fried chicken, fried "
    "rice, fried potato, boiled egg, scrambled egg, grilled cheese, stained glass, stainless steel, barbed wire, "
    "whipped cream, sour cream, ice cream, sweet potato, brussels sprout, hard drive, hard hat, high chair, high "
    "heel, high school, high rise, double decker, flat screen, touch screen, remote control, remote controller, "
    "mobile phone, mobile home, cellular phone, electric guitar, electric toothbrush, electrical outlet, electric "
    "fan, electric shaver, solar panel, musical instrument, orange juice, orange tree, orange slice, orange peel, red "
    "wine, white wine, green bean, green pepper, red pepper, green onion, red onion, black pepper, light bulb, light "
    "pole, light post, light fixture, light switch, stop sign, stop light, cross country, short sleeve, long sleeve, "
    "t shirt, tee shirt, e mail, x ray, make up, high top, martial art, martial artist, fine art, sad face, happy "
    "face, smiley face, frowning face, smiling face, funny face, crescent moon, full moon, musical note, playing "
    "card, playing field, shooting star, spinning wheel, steering wheel, training wheel, grand piano, grand prix, "
    "still life, wild animal, front yard, front porch, back porch, front end, side table, top hat, tank top, middle "
    "school, super bowl, social media, real estate, public transportation, open air, fast food, dry erase, native "
    "american, national park, classical music, modern art, skate park, skate ramp, skateboarding ramp, surf shop, "
    "rest stop, close up, hang glider, swing set, tea set, chess set, train set, roll top, dress shirt, landing gear, "
    "landing strip, square meter, square foot"
)
PHRASES = _LEXICALISED | _APART
# Names that are no kind of their last word (animals, toys and food called after others, things whose last word alone is
# something else): they never count for it, nor are they dropped with it.
FIXED_NAMES = _phrases(
    "hot dog, corn dog, prairie dog, teddy bear, stuffed bear, gummy bear, stuffed animal, sea horse, rocking horse, "
    "saw horse, guinea pig, sea lion, ice cream, french fry, home plate, remote control, piggy bank, paper airplane, "
    "paper plane, parking lot, traffic jam, power plant, railroad tie, baby shower, bridal shower, tank top, crop "
    "top, high top, high heel, high rise, double decker, flat screen, still life, real estate, hand stand, head "
    "stand, tv set, television set, square meter, square foot"
)

# --- What is no concept ----------------------------------------------------------------------------------------------

# Words about the picture.
PICTURES = _words(
    "photo photograph photography picture image pic shot snapshot portrait view scene background foreground backdrop "
    "close-up footage illustration drawing vector clip clipart stock"
)
# Places in the picture or on a thing.
PLACES = _words(
    "front back side top bottom left right middle center centre edge end inside outside rear distance direction part "
    "portion section space spot location place position angle level half quarter"
)
# Amounts, kinds and collections.
AMOUNTS = _words(
    "group couple bunch pair lot set variety assortment collection number amount kind sort type style piece slice "
    "series selection array bit load host dozen plenty mixture combination herd flock body row line pile stack range "
    "majority handful mess hundred thousand million"
)
# Measures; "meter" alone is a thing.
MEASURES = _phrases("square meter, square foot, percent, degree, inch, mile, kilometer")
# Times, seasons and holidays.
TIMES = _words(
    "time day night morning afternoon evening today tonight tomorrow yesterday year month week hour minute moment "
    "season date weekend noon dusk dawn midnight century decade winter summer autumn christmas easter halloween "
    "thanksgiving holiday monday tuesday wednesday thursday friday saturday sunday january february april june july "
    "august september october november december spring fall"
)
# What cannot be seen: ideas, relations, states and manners; and words for anything.
UNSEEN = _words(
    "fun love life use something anything thing stuff item object one other name title idea reason example fact help "
    "need purpose preparation attempt turn try start finish success advice beauty contact service attention focus "
    "interest chance way manner concept size color colour shape length height width age form look sight detail theme "
    "display sale experience process progress world concern question problem answer choice care action activity act "
    "motion movement conversation rest break work rush past future present luck thanks"
)
DROPPED = COLOURS | PICTURES | PLACES | AMOUNTS | MEASURES | TIMES | UNSEEN

# --- Singular and plural ---------------------------------------------------------------------------------------------

# Where lemminflect has another word, or none.
IRREGULAR = {
    "people": "person",
    "mens": "man",
    "womens": "woman",
    "leaves": "leaf",
    "oxen": "ox",
    "axes": "axe",
    "ski": "skis",
    "graffiti": "graffiti",
    "media": "media",
    "gps": "gps",
    "dice": "dice",
    "veggies": "veggie",
    "selfies": "selfie",
    "hoodies": "hoodie",
    "smoothies": "smoothie",
}
# Things that come as a pair or a set and are named in the plural.
PLURAL_ONLY = _words(
    "scissors glasses eyeglasses sunglasses spectacles goggles binoculars pants jeans shorts trousers leggings tights "
    "pajamas overalls panties pliers tweezers tongs shears headphones earphones skis clothes suspenders slacks capris "
    "khakis dungarees knickers stairs woods fireworks headquarters barracks crossroads electronics olympics"
)
# Animals whose plural looks like the singular, and which captions tell of in the plural.
SAME_PLURAL = _words("sheep cattle deer moose bison reindeer swine elk")
# Glasses that are vessels, where "glasses" alone are worn.
GLASSWARE = _words(
    "wine drinking beer champagne water shot cocktail martini juice pint milk whiskey whisky parfait tea"
)

# --- Spelling variants -----------------------------------------------------------------------------------------------

# One word of a language in several spellings, or a clipped form that can mean nothing else; the name that is kept last.
_SPELLINGS = {
    "closeup": "close-up",
    "close up": "close-up",
    "t shirt": "t-shirt",
    "tee shirt": "t-shirt",
    "tshirt": "t-shirt",
    "e mail": "email",
    "x ray": "x-ray",
    "doughnut": "donut",
    "aeroplane": "airplane",
    "racquet": "racket",
    "tennis racquet": "tennis racket",
    "television": "tv",
    "television set": "tv",
    "tv set": "tv",
    "fridge": "refrigerator",
    "hotdog": "hot dog",
    "cellphone": "cell phone",
    "cellular phone": "cell phone",
    "mobile phone": "cell phone",
    "teddybear": "teddy bear",
    "hair dryer": "hair drier",
    "hairdryer": "hair drier",
    "laptop computer": "laptop",
    "microwave oven": "microwave",
    "stoplight": "stop light",
    "streetlight": "street light",
    "firetruck": "fire truck",
    "theatre": "theater",
    "centre": "center",
    "grey": "gray",
    "yoghurt": "yogurt",
    "colour": "color",
    "moustache": "mustache",
    "omelette": "omelet",
    "tyre": "tire",
    "kerb": "curb",
    "pyjamas": "pajamas",
    "aluminium": "aluminum",
    "jewellery": "jewelry",
    "plough": "plow",
    "harbour": "harbor",
    "armour": "armor",
    "neighbour": "neighbor",
    "fibre": "fiber",
    "metre": "meter",
    "litre": "liter",
    "cheque": "check",
    "storey": "story",
    "draught": "draft",
}
VARIANTS = {**{name: name.replace(" ", "") for name in _APART}, **_SPELLINGS}
