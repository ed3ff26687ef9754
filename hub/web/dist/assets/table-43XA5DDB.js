import{a,b}from"./chunk-325J5MFW.js";import"./chunk-OBFXZEGG.js";export{b as DataTable,a as sorted};
