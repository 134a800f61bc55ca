// All texts of the pages, in English and Korean. Names of classes that are not listed are shown as
// they are.

export const STRINGS = {
  en: {
    title: "Masks at the door",
    view: "View",
    viewDoor: "Door",
    viewStaff: "Staff",
    language: "Language",
    picture: "Picture of the camera, with a box around each face",
    emptyPicture: "The camera is off.",
    startCamera: "Start the camera",
    stopCamera: "Stop the camera",
    choosePhotos: "Choose or drop photos",
    sound: "Sound at an alarm",
    privacy: "Everything runs in this browser. No picture is stored or sent.",
    loading: "Loading…",
    loadingMore: "This takes a few seconds the first time.",
    ready: "Ready",
    readyMore: "Start the camera, or choose photos.",
    nobody: "Please step in front of the camera",
    nobodyMore: "Nobody is in the picture.",
    undecided: "One moment, please",
    undecidedMore: "Please look at the camera.",
    far: "Please come closer",
    farMore: "The face is too small to judge.",
    doubtful: "Please look at the camera",
    doubtfulMore: "The state of the mask cannot be told.",
    wear: "Thank you",
    wearMore: "Your mask is worn correctly.",
    incorrect: "Please cover nose and mouth",
    incorrectMore: "The mask is worn wrongly.",
    normal: "Please put on a mask",
    normalMore: "No mask was seen.",
    failed: "The page could not be loaded",
    noPicture: "The camera cannot be used",
    cameraRefused: "The browser was not allowed to use the camera. Allow it in the address bar or the "
      + "browser's settings and start again. Photos work without it.",
    noCamera: "No camera was found. Connect one and start again. Photos work without it.",
    cameraBusy: "The camera cannot be read; another program may be using it. Close that program and "
      + "start again.",
    cameraLost: "The camera was disconnected. Connect it and start again.",
    insecure: "A browser allows the camera only on https or localhost. Photos work here.",
    people: "People",
    state: "State",
    thisMinute: "This minute",
    sinceStart: "Since the start",
    total: "Total",
    countsNote: "People are counted once while they stay in the picture. Whoever leaves and comes back "
      + "counts again.",
    now: "In the picture now",
    nobodyNow: "Nobody",
    person: "Person",
    events: "Events",
    noEvents: "None yet",
    gone: "gone",
    alarm: "Alarm",
    photos: "Photos",
    noFace: "No face was found.",
    face: "Face",
    unreadable: "This file cannot be read as a photo.",
    working: "Working…",
    photosDone: "Photos are done:",
    notSure: "not sure",
    or: "or",
    tooFar: "too far away",
    speed: "frames/s",
    offline: "Works offline.",
    online: "Needs the server; offline use is not possible at this address.",
    reviewTitle: "Label doubtful faces",
    labelled: "Labelled",
    progress: "{0} of {1} labelled",
    photoOf: "Photo {0} of {1}",
    taken: "Taken {0}",
    expires: "Will be deleted {0}",
    noExpiry: "Will not be deleted by itself",
    tasksToLabel: "Tasks to label",
    shares: "Percentages are the model's probabilities.",
    unjudged: "The model does not judge this face ({0}); its probabilities would be these.",
    otherLabel: "The table has another label: {0}",
    back: "Back",
    next: "Next",
    skip: "Skip",
    undo: "Undo",
    remove: "Delete this photo",
    removeSure: "Once more deletes this photo for good",
    removed: "The photo was deleted.",
    saved: "Saved. {0}: {1}",
    undone: "Undone",
    noUndo: "There is nothing to undo.",
    onlyOne: "Only this one has no label yet.",
    lost: "The photo has expired or was deleted.",
    notSaved: "Not saved: {0}",
    unreachable: "The server cannot be reached. Nothing is saved until it is back.",
    nothing: "There are no doubtful faces",
    nothingMore: "They appear here when watch --keep-doubtful puts them into the folder.",
    allDone: "All are labelled",
    allDoneMore: "The folder is a data set now: cropfirst detect FOLDER, then cropfirst train FOLDER --task TASK --init-from RUN.",
    keys: "Use keys",
    keysHelp: "1-9: class. Space or 0: skip. Backspace or U: undo. Delete or X, twice: delete the photo. "
      + "← →: photos. ↑ ↓: tasks.",
    keyWanted: "Key of the server",
    keyOpen: "Open",
    keyWrong: "The server wants a key.",
    classes: {
      wear: "mask worn", incorrect: "mask worn wrongly", normal: "no mask",
      undecided: "not decided", doubtful: "doubtful",
      male: "male (as perceived)", female: "female (as perceived)",
    },
    tasks: { mask: "mask", gender: "gender", age: "age" },
    reasons: { "too small": "too small", blurred: "blurred", turned: "turned away", "not sure": "not sure" },
  },
  ko: {
    title: "출입구 마스크 확인",
    view: "화면",
    viewDoor: "출입구",
    viewStaff: "직원",
    language: "언어",
    picture: "카메라 화면, 얼굴마다 상자 표시",
    emptyPicture: "카메라가 꺼져 있습니다.",
    startCamera: "카메라 시작",
    stopCamera: "카메라 정지",
    choosePhotos: "사진 선택 또는 끌어다 놓기",
    sound: "경보 소리",
    privacy: "모든 처리는 이 브라우저 안에서 이루어집니다. 사진은 저장되거나 전송되지 않습니다.",
    loading: "불러오는 중…",
    loadingMore: "처음에는 몇 초가 걸립니다.",
    ready: "준비 완료",
    readyMore: "카메라를 시작하거나 사진을 선택하세요.",
    nobody: "카메라 앞에 서 주세요",
    nobodyMore: "화면에 아무도 없습니다.",
    undecided: "잠시만 기다려 주세요",
    undecidedMore: "카메라를 바라봐 주세요.",
    far: "조금 더 가까이 와 주세요",
    farMore: "얼굴이 너무 작아 판단할 수 없습니다.",
    doubtful: "카메라를 바라봐 주세요",
    doubtfulMore: "마스크 상태를 확인할 수 없습니다.",
    wear: "감사합니다",
    wearMore: "마스크를 올바르게 착용하셨습니다.",
    incorrect: "코와 입을 가려 주세요",
    incorrectMore: "마스크를 잘못 착용하셨습니다.",
    normal: "마스크를 착용해 주세요",
    normalMore: "마스크가 보이지 않습니다.",
    failed: "페이지를 불러올 수 없습니다",
    noPicture: "카메라를 사용할 수 없습니다",
    cameraRefused: "브라우저에 카메라 사용이 허용되지 않았습니다. 주소창이나 브라우저 설정에서 허용한 뒤 "
      + "다시 시작하세요. 사진은 카메라 없이도 사용할 수 있습니다.",
    noCamera: "카메라를 찾을 수 없습니다. 연결한 뒤 다시 시작하세요. 사진은 카메라 없이도 사용할 수 있습니다.",
    cameraBusy: "카메라를 읽을 수 없습니다. 다른 프로그램이 사용 중일 수 있습니다. 그 프로그램을 닫고 다시 "
      + "시작하세요.",
    cameraLost: "카메라 연결이 끊어졌습니다. 연결한 뒤 다시 시작하세요.",
    insecure: "브라우저는 https 또는 localhost에서만 카메라를 허용합니다. 사진은 사용할 수 있습니다.",
    people: "인원",
    state: "상태",
    thisMinute: "현재 1분",
    sinceStart: "시작 이후",
    total: "합계",
    countsNote: "화면에 머무는 동안 한 번만 셉니다. 나갔다가 다시 들어오면 다시 셉니다.",
    now: "현재 화면",
    nobodyNow: "없음",
    person: "사람",
    events: "기록",
    noEvents: "아직 없음",
    gone: "나감",
    alarm: "경보",
    photos: "사진",
    noFace: "얼굴을 찾지 못했습니다.",
    face: "얼굴",
    unreadable: "사진으로 읽을 수 없는 파일입니다.",
    working: "처리 중…",
    photosDone: "처리한 사진:",
    notSure: "확실하지 않음",
    or: "또는",
    tooFar: "너무 멂",
    speed: "프레임/초",
    offline: "오프라인에서도 작동합니다.",
    online: "서버가 필요합니다. 이 주소에서는 오프라인으로 사용할 수 없습니다.",
    reviewTitle: "불확실한 얼굴 라벨 지정",
    labelled: "라벨 지정",
    progress: "{1}장 중 {0}장 라벨 지정",
    photoOf: "사진 {0} / {1}",
    taken: "촬영 {0}",
    expires: "삭제 예정 {0}",
    noExpiry: "자동으로 삭제되지 않음",
    tasksToLabel: "라벨을 지정할 항목",
    shares: "백분율은 모델의 확률입니다.",
    unjudged: "모델은 이 얼굴을 판단하지 않습니다({0}). 백분율은 참고용 확률입니다.",
    otherLabel: "표에 다른 라벨이 있습니다: {0}",
    back: "이전",
    next: "다음",
    skip: "건너뛰기",
    undo: "실행 취소",
    remove: "이 사진 삭제",
    removeSure: "한 번 더 누르면 사진이 완전히 삭제됩니다",
    removed: "사진을 삭제했습니다.",
    saved: "저장됨. {0}: {1}",
    undone: "취소했습니다",
    noUndo: "취소할 것이 없습니다.",
    onlyOne: "라벨이 없는 사진은 이것뿐입니다.",
    lost: "사진이 만료되었거나 삭제되었습니다.",
    notSaved: "저장되지 않음: {0}",
    unreachable: "서버에 연결할 수 없습니다. 다시 연결될 때까지 저장되지 않습니다.",
    nothing: "불확실한 얼굴이 없습니다",
    nothingMore: "watch --keep-doubtful가 폴더에 저장하면 여기에 나타납니다.",
    allDone: "라벨을 모두 지정했습니다",
    allDoneMore: "이제 이 폴더는 데이터셋입니다. cropfirst detect FOLDER를 실행한 다음 cropfirst train FOLDER --task TASK --init-from RUN을 "
      + "실행하세요.",
    keys: "단축키 사용",
    keysHelp: "1-9: 클래스. Space 또는 0: 건너뛰기. Backspace 또는 U: 실행 취소. Delete 또는 X 두 번: 사진 삭제. "
      + "← →: 사진. ↑ ↓: 항목.",
    keyWanted: "서버 키",
    keyOpen: "열기",
    keyWrong: "서버에 키가 필요합니다.",
    classes: {
      wear: "마스크 착용", incorrect: "마스크 잘못 착용", normal: "마스크 없음",
      undecided: "미정", doubtful: "불확실",
      male: "남성(추정)", female: "여성(추정)",
    },
    tasks: { mask: "마스크", gender: "성별", age: "나이" },
    reasons: { "too small": "너무 작음", blurred: "흐림", turned: "고개를 돌림", "not sure": "확실하지 않음" },
  },
};

export const LANGUAGES = Object.keys(STRINGS);
let language = "en";

/** Use a language of `LANGUAGES` from now on. */
export function setLanguage(name) {
  language = name;
}

/** Return the text of a key in the current language; {0} and so on stand for the values. */
export function text(key, ...values) {
  const words = STRINGS[language][key] ?? key;
  return words.replace(/\{(\d)\}/g, (place, number) => values[number] ?? place);
}

/** Return the words for a class, a task or a reason; `group` is one of these, plural. */
export function wordsFor(group, name) {
  return STRINGS[language][group][name] ?? name;
}

/** Return a share in [0, 1] as a whole percentage. */
export function percent(value) {
  return new Intl.NumberFormat(language, { style: "percent" }).format(value);
}

/** Return a time of day. */
export function clock(date) {
  return new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(date);
}

/** Return a date and time; `seconds` is a Unix time. */
export function day(seconds) {
  const style = { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, style).format(new Date(1000 * seconds));
}
