"""Words that the rules parser treats in a stated way; everything else comes from lemminflect's open lexicon."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> frozenset[str]:
    return frozenset(phrase.strip() for phrase in text.split(","))


DETERMINERS = _words(
    "a an the this these those some any no each every either neither another other both all half many much more "
    "most few several such my your his her its our their whose what one two three four five six seven eight nine "
    "ten eleven twelve dozen hundred thousand million first second third own same"
)
PREPOSITIONS = _words(
    "of in on at by with from for into onto over under above below behind beside besides between among amid near "
    "against along across around through throughout inside outside within without upon toward towards off up down "
    "out about after before during until since like per via beneath underneath atop alongside past beyond despite "
    "except"
)
CONNECTIVES = _words(
    "how why and or but nor while as when where because if than then so yet & , ; : . ! ? - -- ( ) \" '"
)
PRONOUNS = _words(
    "i you he she it we they who which that there something someone everything everyone nothing me him us them "
    "himself herself itself themselves here"
)
AUXILIARIES = _words(
    "is are was were be been being am 's 're 'm 've ve n't not has have had do does did can could will would shall "
    "should may might must"
)
# Words before a noun that lemminflect lists as nouns or verbs too, and adverbs.
MODIFIERS = _words(
    "very too also just only still together away back forward outdoors indoors outside inside upside down again "
    "almost already always ever never now often once quite rather really soon even well else next close ready full "
    "open sunny lone lonely single double different various several empty old young little small big large huge "
    "tiny tall short long wide high low deep bright dark clear wet dry clean dirty new modern vintage antique "
    "pretty beautiful cute colorful colourful happy sad nice fresh soft hard hot cold warm cool busy heavy flat "
    "round square sharp fat thin thick sweet sour raw ripe rough smooth plain striped checkered patchy decorative "
    "ornate domestic male female adult elderly main major minor common public private professional good wild "
    "multiple lush best better great perfect free last final real local classic abstract general known present "
    "aerial interior exterior unmade onstage"
)
COLOURS = _words(
    "red blue green yellow white black brown gray grey pink purple beige tan teal maroon turquoise violet cyan "
    "crimson navy blonde blond cream multicolored"
)
MATERIALS = _words(
    "wood metal plastic brick stone concrete glass leather steel iron gold silver cloth marble granite ceramic "
    "bamboo wicker cardboard rubber aluminum chrome velvet denim wool cotton silk"
)

# Nouns that lemminflect lists as adjectives alone.
ADJECTIVES_TOO = _words("remote")

# What captions say about the picture, the scene, amounts and manners, and no one can put a box around.
DROPPED = COLOURS | _words(
    "photo photograph photography picture image pic shot snapshot portrait view scene background foreground "
    "backdrop closeup footage illustration drawing vector clip clipart stock frame setting front back side top "
    "bottom left right middle center centre edge end corner inside outside outdoors indoors rear distance direction "
    "area place spot location part portion section space surface level angle position row line group couple bunch "
    "pair lot lots set variety assortment collection number amount kind sort type style piece slice series "
    "selection array bit load host dozen dozens hundreds thousands plenty mixture combination color colour size "
    "shape length height width age way manner form look sight detail pattern design theme concept time day night "
    "morning afternoon evening today year month week hour minute moment season date weekend noon dusk dawn fun love "
    "life work use something anything thing things stuff item object one ones other others name word title action "
    "activity act event experience idea reason example case fact help need show display sale purpose preparation "
    "attempt turn try step start finish air mid half quarter rest break world process progress motion movement "
    "flight attention focus interest chance conversation while lay lie pile stack mess "
    "monday tuesday wednesday thursday friday saturday sunday"
)

# Forms that are a verb far more often than a noun; read as a noun only after a determiner, adjective or preposition.
VERBS = _words(
    "stand sit hold walk ride look eat run play jump lay lie cut watch fly drive throw hit swing catch take make "
    "get go come see lean surf ski skate graze sleep pose wait talk drink stare perform "
    "prepare rest hang show wear carry pull push reach bend move cross wave face feature contain surround fill "
    "cover smile stretch race travel hike slide roll kick pitch serve return practice practise compete attempt "
    "try turn stop start head lead lick chew bite sniff feed nurse splash swim dive float sail dock land approach "
    "leave pass enter visit enjoy share use work cook bake stir chop rise set climb crawl kneel crouch squat lounge "
    "perch roam wander gather celebrate dance sing laugh cry read write draw paint type point touch hug kiss shake "
    "raise lift drop toss pick put place park rush chase peek peer glance gaze help let keep include seem appear "
    "become grow fall add"
)
# -ing forms that name a thing.
THINGS_ING = _words(
    "building ceiling painting clothing railing crossing landing siding lighting bedding frosting icing topping "
    "stuffing seasoning dressing wedding opening awning covering carving drawing setting clearing filling lining"
)

# Nouns after which no compound goes on: "a man frisbee" is two things.
PERSONS = _words("man woman boy girl person child kid guy lady gentleman player male female toddler adult")

# Names whose first word is an adjective or a verb form, so that the rules would keep only the second.
PHRASES = _phrases(
    "hot dog, potted plant, stuffed animal, stuffed bear, polar bear, grizzly bear, brown bear, black bear, living "
    "room, dining room, dining table, waiting room, dressing room, laundry room, swimming pool, "
    "parking lot, parking meter, parking garage, washing machine, sewing machine, vending machine, "
    "frying pan, cutting board, baking sheet, shopping cart, shopping bag, shopping mall, sleeping bag, rocking "
    "chair, wedding cake, wedding dress, running shoe, walking stick, fishing boat, fishing rod, fishing pole, "
    "sailing boat, racing car, racing bike, flying disc, skateboarding ramp, surfing board, mixing bowl, serving "
    "dish, chewing gum, french fry, mashed potato, baked potato, fried egg, fried chicken, fried rice, boiled egg, "
    "stained glass, remote control, wireless mouse, mobile phone, cellular phone, electric guitar, electric "
    "toothbrush, hard drive, double decker, high chair, high heel, high school, low table, high rise, flat screen, "
    "wide screen, laptop computer, orange juice, orange tree, red panda, red wine, white wine, green bean, green "
    "pepper, green onion, black board, white board, whipped cream, ice cream, sour cream, sweet potato, bell "
    "pepper, brussels sprout, solar panel, electrical outlet, electric fan, light bulb, light pole, light post, "
    "light fixture, light house, light switch, stop sign, stop light, fire hydrant, bow tie, cross walk, rail road, "
    "rest room, stuffed toy, sports ball, sports car, sports bar, sports equipment, martial art, "
    "christmas tree, tennis racket, hair drier, sad face, happy face, smiley face, frowning face, smiling face, "
    "crescent moon, music note, musical note, playing card, traffic light, full moon, shooting star, alarm clock, "
    "grandfather clock, paper towel, paper plate, paper bag, paper cup, toilet paper, glass vase, ferris wheel, "
    "steering wheel, spinning wheel, snow board"
)

IRREGULAR = {
    "people": "person",
    "persons": "person",
    "leaves": "leaf",
    "loaves": "loaf",
    "dice": "dice",
    "axes": "axe",
    "ski": "skis",
    "glass": "glass",
    "graffiti": "graffiti",
    "veggies": "veggie",
    "media": "media",
    "christmas": "christmas",
    "gps": "gps",
    "bass": "bass",
    "tennis": "tennis",
    "lens": "lens",
    "calves": "calf",
    "hooves": "hoof",
    "shelves": "shelf",
    "scarves": "scarf",
    "buses": "bus",
    "busses": "bus",
    "gases": "gas",
    "data": "data",
    "species": "species",
    "series": "series",
    "cookies": "cookie",
    "movies": "movie",
    "ties": "tie",
    "pies": "pie",
    "zombies": "zombie",
    "selfies": "selfie",
    "hoodies": "hoodie",
    "brownies": "brownie",
    "smoothies": "smoothie",
    "birdies": "birdie",
    "smileys": "smiley",
}
# Things that come as a pair and are named in the plural.
PLURAL_ONLY = _words(
    "scissors glasses eyeglasses sunglasses goggles binoculars pants jeans shorts trousers leggings tights pajamas "
    "pyjamas overalls panties boxers briefs pliers tweezers tongs shears headphones earphones skis clothes "
    "suspenders"
)
# Plurals that look like the singular.
SAME_PLURAL = _words("sheep cattle deer moose bison salmon aircraft")
GLASSWARE = _words("wine drinking beer champagne water shot cocktail martini juice pint milk whiskey parfait")

# Spelling and clipped variants of one word; other synonyms stay concepts of their own.
VARIANTS = {
    "doughnut": "donut",
    "aeroplane": "airplane",
    "air plane": "airplane",
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
    "blow dryer": "hair drier",
    "skate board": "skateboard",
    "surf board": "surfboard",
    "snow board": "snowboard",
    "tooth brush": "toothbrush",
    "back pack": "backpack",
    "hand bag": "handbag",
    "key board": "keyboard",
    "computer keyboard": "keyboard",
    "suit case": "suitcase",
    "neck tie": "necktie",
    "stoplight": "stop light",
    "firetruck": "fire truck",
    "lap top": "laptop",
    "laptop computer": "laptop",
    "flat screen tv": "tv",
    "microwave oven": "microwave",
    "toaster oven": "toaster",
    "refrigerator freezer": "refrigerator",
    "fire plug": "fire hydrant",
    "cross walk": "crosswalk",
    "side walk": "sidewalk",
    "ice box": "refrigerator",
    "theatre": "theater",
    "grey": "gray",
    "yoghurt": "yogurt",
    "colour": "color",
    "moustache": "mustache",
    "omelette": "omelet",
    "light house": "lighthouse",
    "rail road": "railroad",
}
