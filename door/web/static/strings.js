// All texts of the page, in English and Korean. Names of classes that are not listed are shown as
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

/** Return the text of a key in the current language. */
export function text(key) {
  return STRINGS[language][key] ?? key;
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
